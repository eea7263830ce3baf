import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import { type Outcome, retort } from "./retort.js";

const folder = mkdtempSync(join(tmpdir(), "cli-"));
afterAll(() => rmSync(folder, { recursive: true }));

const COMMANDS = [
  ["train"],
  ["plan"],
  ["devices"],
  ["eval"],
  ["generate"],
  ["score"],
  ["export"],
  ["cache"],
  ["run"],
  ["languages"],
  ["languages", "check"],
  ["tasks"],
  ["tasks", "convert"],
  ["tasks", "check"],
  ["tasks", "rewrite"],
  ["config"],
  ["config", "schema"],
  ["config", "check"],
  ["serve"],
  ["worker"],
  ["warm-start"],
];

const helps = new Map<string, Promise<Outcome>>();

/** A command's help, asked for once. */
function helpOf(command: readonly string[]): Promise<Outcome> {
  const name = command.join(" ");
  const help = helps.get(name) ?? retort([...command, "--help"]);
  helps.set(name, help);
  return help;
}

test.each(COMMANDS)("retort %s %s has help with an example, on stdout, exit 0", async (...command) => {
  const words = command.filter((word) => typeof word === "string");
  const { code, stdout, stderr } = await helpOf(words);
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout).toContain(`Usage: retort ${words.join(" ")}`);
  if (words.join() !== "config") expect(stdout).toMatch(/:\n {2}\$ /);
});

/** Every option of every command, as its help shows it. */
async function optionsByName(): Promise<Map<string, Set<string>>> {
  const found = new Map<string, Set<string>>();
  for (const command of COMMANDS) {
    const { stdout } = await helpOf(command);
    for (const [, flags] of stdout.matchAll(/^ {2}(--\S+(?: <[^>]+>)?)/gm)) {
      const name = flags!.split(" ")[0]!;
      found.set(name, (found.get(name) ?? new Set()).add(flags!));
    }
  }
  return found;
}

test("an option takes the same wherever it is, and what takes seconds ends in -s", async () => {
  const options = await optionsByName();
  const uneven = [...options.values()].filter((flags) => flags.size > 1).map((flags) => [...flags].sort());
  // Two commands write a policy, the others rows.
  expect(uneven).toEqual([["--out <file>", "--out <folder>"]]);
  for (const [flags] of options.values()) expect(flags!.includes("<seconds>")).toBe(/-s /.test(flags!));
  expect(options.size).toBeGreaterThan(80);
});

test("the help lists every command", async () => {
  const { stdout } = await retort(["--help"]);
  for (const [name] of COMMANDS) expect(stdout).toMatch(new RegExp(`^ {2}${name}\\b`, "m"));
});

test("help before a command's name is --help after it", async () => {
  expect(await retort(["help", "plan"])).toEqual(await retort(["plan", "--help"]));
});

test("--version prints the package's version", async () => {
  expect((await retort(["--version"])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});

test.each([
  { args: [], says: "Usage: retort" },
  { args: ["trian", "x"], says: "(Did you mean train?)" },
  { args: ["train"], says: "missing required argument 'run.yaml'" },
  { args: ["train", "a.yaml", "b.yaml"], says: "too many arguments" },
  { args: ["train", "a.yaml", "--rsume"], says: "(Did you mean --resume?)" },
  { args: ["eval", "--tasks", "t.jsonl"], says: "retort eval: need --out FILE." },
  {
    args: ["eval", "--tasks", "t", "--out", "o", "--references", "--workers", "0"],
    says: "Need an integer of 1 or more.",
  },
  {
    args: ["generate", "--policy", "p", "--prompt", "x", "--device", "gpu"],
    says: "Allowed choices are auto, cpu",
  },
  ...["generate", "eval", "tasks rewrite"].map((command) => ({
    args: [...command.split(" "), "--max-tokens", "9"],
    says: "Here it is --max-new-tokens, as in a run file.",
  })),
])("wrong usage is exit 2 and says what is wrong: $args", async ({ args, says }) => {
  const { code, stdout, stderr } = await retort(args);
  expect([code, stdout]).toEqual([2, ""]);
  expect(stderr).toContain(says);
});

test("a wrong run file is exit 2, with file, line, path and the nearest key, and nothing starts", async () => {
  const file = join(folder, "wrong.yaml");
  writeFileSync(
    file,
    "policy: {path: p}\ntasks: {family: quickstart}\nobjective: {type: sdpo}\noptimizer: {type: adamw}\nrollout:\n  temprature: 1\n",
  );
  const wanted = `retort: ${file}:6:3: rollout.temprature: unknown key. Did you mean rollout.temperature?\n`;
  for (const command of [["config", "check"], ["train"]]) {
    expect(await retort([...command, file], { cwd: folder })).toEqual({
      code: 2,
      stdout: "",
      stderr: wanted,
    });
  }
});

test("sections that are missing are each named, and an --out that is a folder is exit 2", async () => {
  const file = join(folder, "short.yaml");
  writeFileSync(file, "run: {seed: 1}\n");
  const { code, stderr } = await retort(["config", "check", file]);
  const sections = ["policy: missing: need a map", "tasks: missing", "objective: missing: need a map"];
  expect([code, stderr]).toEqual([
    2,
    `retort: ${[...sections, "optimizer: missing: need a map"].map((line) => `${file}:1:1: ${line}.\n`).join("")}`,
  ]);
  const mbpp = "configs/tasks/mbpp-sample.jsonl";
  const judged = await retort(["eval", "--tasks", mbpp, "--references", "--out", folder]);
  expect([judged.code, judged.stderr]).toEqual([
    2,
    `retort: --out: need a file in a folder that can be written (EISDIR), got "${folder}".\n`,
  ]);
});

test("a warm start that could not be written is refused before anything is made", async () => {
  const file = join(folder, "taken");
  writeFileSync(file, "");
  const { code, stderr } = await retort(["warm-start", "--out", file, "--steps", "1"]);
  expect([code, stderr]).toEqual([2, `retort: --out: need a folder that can be made, got "${file}".\n`]);
});

test("a right run file is exit 0; --resolved prints it with every default, and that is right too", async () => {
  const shipped = "configs/runs/quickstart.yaml";
  expect((await retort(["config", "check", shipped])).code).toBe(0);
  const { stdout } = await retort(["config", "check", shipped, "--resolved", "--set", "run.seed=5"]);
  const file = join(folder, "resolved.yaml");
  writeFileSync(file, stdout);
  expect(stdout).toContain("  seed: 5\n");
  expect((await retort(["config", "check", file, "--resolved"])).stdout).toBe(stdout);
});

test.each(["run", "language", "task"])("the JSON Schema of a %s is JSON on stdout", async (of) => {
  const { code, stdout } = await retort(["config", "schema", "--of", of]);
  expect([code, (JSON.parse(stdout) as { type: string }).type]).toEqual([0, "object"]);
});

test("npx retort works in a checkout", async () => {
  const { stdout } = await promisify(execFile)("npx", ["--no-install", "retort", "--version"], {
    cwd: packageRoot,
  });
  expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});
