import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { packageRoot, Task } from "../../core/index.js";
import { retort } from "./retort.js";

const folder = mkdtempSync(join(tmpdir(), "readme-"));
afterAll(() => rmSync(folder, { recursive: true }));
const readme = readFileSync(join(packageRoot, "README.md"), "utf8");

/** The content of the README's fenced blocks of one kind. */
const blocks = (kind: string): string[] =>
  [...readme.matchAll(new RegExp(`^\`\`\`${kind}\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map(([, text]) => text!);

test("one sentence, the two commands and what one will see stand before line 30", () => {
  const start = readme.split("\n").slice(0, 30).join("\n");
  for (const part of ["npm start", "npm test", "What you will see"]) expect(start).toContain(part);
});

test("the task of the README is a task", () => {
  expect(blocks("json").map((text) => Task.parse(JSON.parse(text)).id)).toEqual(["add/1"]);
});

test("the language of the README works as it is written there", async () => {
  const text = blocks("yaml").find((each) => each.includes("execute:"));
  const own = join(folder, "my-languages");
  mkdirSync(own);
  writeFileSync(join(own, "awk.yaml"), text!);
  expect(Object.keys(parse(text!) as object)).toContain("execute");
  const file = join(folder, "sum.awk");
  writeFileSync(file, "{ print $1 + $2 }\n");
  const { stdout } = await retort(["run", "--language", "awk", "--languages", own, file], { input: "3 4\n" });
  expect(stdout).toBe("7\n");
  expect((await retort(["languages", "check", "awk", "--languages", own])).stdout).toMatch(/^awk +ok/m);
});

test("the policy of the README is one that a run file may name", async () => {
  const text = blocks("yaml").find((each) => each.includes("policy:"));
  const template = readFileSync(join(packageRoot, "configs/runs/own-tasks.yaml"), "utf8");
  const file = join(folder, "run.yaml");
  writeFileSync(file, stringify({ ...(parse(template) as object), ...(parse(text!) as object) }));
  const checked = await retort(["config", "check", file]);
  expect(checked, checked.stderr).toMatchObject({ code: 0 });
});

test("every command of the README's table exists", async () => {
  const { stdout } = await retort(["--help"]);
  const named = [...readme.matchAll(/^\| `retort (\w+)/gm)].map(([, name]) => name!);
  expect(named.length).toBeGreaterThan(5);
  for (const name of named) expect(stdout).toMatch(new RegExp(`^ {2}${name}\\b`, "m"));
});

test("every file and folder that the README links or tabulates exists", () => {
  const linked = [...readme.matchAll(/\]\(([^)#:]+)\)|^\| `([a-z]+\/)` \|/gm)].map(
    ([, link, row]) => (link ?? row)!,
  );
  expect(linked.length).toBeGreaterThan(10);
  expect(linked.filter((path) => !existsSync(join(packageRoot, path)))).toEqual([]);
});
