import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { main, retort } from "./retort.js";

const folder = mkdtempSync(join(tmpdir(), "cli-run-"));
afterAll(() => rmSync(folder, { recursive: true }));

function program(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

test("a program gets stdin, its output passes through, and it exits as it did", async () => {
  const file = program("add", 'read a b\necho $((a + b))\necho "said aside" >&2\nexit 7\n');
  expect(await retort(["run", "--language", "bash", file], { input: "3 4\n" })).toEqual({
    code: 7,
    stdout: "7\n",
    stderr: "said aside\n",
  });
});

test("output arrives while the program still runs, and input while it waits", async () => {
  const file = program("echo", 'while read line; do echo "got $line"; done\n');
  const child = spawn(process.execPath, [main, "run", "--language", "bash", file]);
  const firstLine = new Promise<string>((resolve) =>
    child.stdout.once("data", (chunk) => resolve(String(chunk))),
  );
  child.stdin.write("one\n");
  expect(await firstLine).toBe("got one\n");
  child.stdin.end();
  expect(await new Promise((resolve) => child.once("close", resolve))).toBe(0);
});

test("a signal is 128 + its number, out of time is 124 with a word on stderr", async () => {
  const killed = await retort(["run", "--language", "bash", program("kill", "kill -SEGV $$\n")]);
  expect(killed.code).toBe(139);
  const slow = await retort(["run", "--language", "bash", "--time-s", "0.5", program("sleep", "sleep 20\n")]);
  expect([slow.code, slow.stderr]).toEqual([124, "retort: ended by time_limit\n"]);
});

test("a program that does not compile is exit 1, with the compiler's words on stderr", async () => {
  const { code, stdout, stderr } = await retort(["run", "--language", "c", program("bad", "int main( {\n")]);
  expect([code, stdout]).toEqual([1, ""]);
  expect(stderr).toContain("error:");
});

test("an unknown language and a missing file are usage errors", async () => {
  const language = await retort(["run", "--language", "bsh", program("x", "")]);
  expect(language.code).toBe(2);
  expect(language.stderr).toContain("bash");
  const missing = await retort(["run", "--language", "bash", join(folder, "none")]);
  expect([missing.code, missing.stderr]).toEqual([
    2,
    `retort: ${join(folder, "none")}: need a program file that can be read.\n`,
  ]);
});

test("languages lists what is shipped; check says of each whether it works here", async () => {
  const listed = JSON.parse((await retort(["languages", "--json"])).stdout) as {
    name: string;
    status: string;
  }[];
  expect(listed.map(({ name }) => name)).toEqual(
    expect.arrayContaining(["bash", "c", "javascript", "lua", "python"]),
  );
  expect(listed.find(({ name }) => name === "lua")).toMatchObject({ status: "unchecked" });
  const some = ["bash", "c", "lua"];
  const { code, stdout } = await retort(["languages", "check", ...some, "--json"]);
  const checked = JSON.parse(stdout) as Record<string, unknown>[];
  expect([code, checked.map((row) => Object.keys(row).join())]).toEqual([
    0,
    some.map(() => "name,status,version,install"),
  ]);
  expect(checked.find(({ name }) => name === "lua")).toMatchObject({
    status: "ok",
    version: expect.stringMatching(/^Lua 5\.4/) as unknown,
  });
});

test("a language of one's own is a YAML file in a folder", async () => {
  writeFileSync(
    join(folder, "upper.yaml"),
    "prompt: Write text.\nfilename: text\nexecute: tr a-z A-Z < text\nselftest: {program: abc, output: ABC}\n",
  );
  const own = ["--languages", folder];
  const { stdout } = await retort(["run", "--language", "upper", ...own, program("t", "hello")]);
  expect(stdout).toBe("HELLO");
  expect((await retort(["languages", "check", "upper", ...own])).stdout).toMatch(/^upper\s+ok/m);
});
