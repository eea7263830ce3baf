import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import { checkNode, distribution, systemNotes } from "../../scripts/host.mjs";
import { npmIsCurrent } from "../../scripts/setup.mjs";
import { installCommand } from "../../scripts/system-packages.mjs";
import { countTests } from "../../scripts/test-counts.mjs";

const folder = mkdtempSync(join(tmpdir(), "setup-"));
afterAll(() => rmSync(folder, { recursive: true }));

test.each(["18.20.0", "20.16.9"])("Node %s is refused with the fix", (version) => {
  expect(() => checkNode(version)).toThrow(
    `Node 20.17 or newer is needed; this is ${version}. Install it from`,
  );
});

test.each(["20.17.0", "22.0.0", "24.1.0"])("Node %s is welcome", (version) => {
  expect(() => checkNode(version)).not.toThrow();
});

const linux = { platform: "linux", arch: "x64", kernel: "Linux version 6.1.0-18-amd64" };

test("Linux on x64 needs no remark", () => {
  expect(systemNotes(linux)).toEqual([]);
});

test.each([
  { name: "macOS", host: { ...linux, platform: "darwin" }, says: "macOS has no namespaces" },
  { name: "Windows", host: { ...linux, platform: "win32" }, says: "Use WSL 2 with Debian" },
  {
    name: "WSL 1",
    host: { ...linux, kernel: "Linux version 4.4.0-19041-Microsoft" },
    says: "wsl --set-version Debian 2",
  },
  { name: "32-bit ARM", host: { ...linux, arch: "arm" }, says: "ONNX Runtime has no build for arm" },
])("$name is refused in a sentence", ({ host, says }) => {
  expect(() => systemNotes(host)).toThrow(says);
});

test.each([
  {
    name: "WSL 2",
    host: { ...linux, kernel: "Linux version 5.15.90.1-microsoft-standard-WSL2" },
    says: "WSL 2",
  },
  { name: "arm64", host: { ...linux, arch: "arm64" }, says: "tested on x64 only" },
])("$name goes on with an honest sentence", ({ host, says }) => {
  const notes = systemNotes(host) as string[];
  expect([notes.length, notes[0]?.includes(says)]).toEqual([1, true]);
});

test("the distribution is read from os-release, quoted or not", () => {
  expect(distribution('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n')).toEqual({
    id: "debian",
    version: "12",
    name: "Debian GNU/Linux 12 (bookworm)",
  });
});

test("the command to type names sudo only for those who need it", () => {
  expect(installCommand(["lua5.4"], true)).toBe("sudo apt-get install -y --no-install-recommends lua5.4");
  expect(installCommand(["lua5.4"], false)).toBe("apt-get install -y --no-install-recommends lua5.4");
});

test("npm packages are current when every one that is not optional has the locked version", () => {
  const write = (name: string, packages: object): void =>
    writeFileSync(join(folder, name), JSON.stringify({ packages }));
  mkdirSync(join(folder, "node_modules"), { recursive: true });
  const locked = {
    "": { version: "1.0.0" },
    "node_modules/a": { version: "1.0.0" },
    "node_modules/b-darwin": { version: "1.0.0", optional: true },
  };
  write("package-lock.json", locked);
  expect(npmIsCurrent(folder)).toBe(false);
  write("node_modules/.package-lock.json", { "node_modules/a": { version: "0.9.0" } });
  expect(npmIsCurrent(folder)).toBe(false);
  write("node_modules/.package-lock.json", { "node_modules/a": { version: "1.0.0" } });
  expect(npmIsCurrent(folder)).toBe(true);
});

/** The set-up with a PATH of our own: only Node and the commands named. */
function setupWith(
  commands: Record<string, string>,
  ...args: string[]
): { status: number | null; said: string } {
  const bin = mkdtempSync(join(folder, "bin-"));
  for (const each of [folder, bin]) chmodSync(each, 0o755); // the sandbox is tried as another user
  symlinkSync(process.execPath, join(bin, "node"));
  for (const [name, body] of Object.entries(commands)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${body}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  const done = spawnSync(join(bin, "node"), ["scripts/setup.mjs", ...args], {
    cwd: packageRoot,
    encoding: "utf8",
    env: { PATH: bin, HOME: folder },
  });
  return { status: done.status, said: done.stderr };
}

test("where bubblewrap cannot make namespaces the set-up stops and says what would help", () => {
  const { status, said } = setupWith(
    { bwrap: "echo 'bwrap: No permissions to create new namespace' >&2; exit 1" },
    "start",
    "--no-install",
  );
  expect(status).toBe(2);
  expect(said).toContain("The sandbox cannot start: bwrap: No permissions to create new namespace");
  expect(said.trim().split("\n").length).toBeGreaterThan(1);
});

test("an unknown purpose is a usage error", () => {
  const done = spawnSync(process.execPath, ["scripts/setup.mjs", "dance"], {
    cwd: packageRoot,
    encoding: "utf8",
  });
  expect([done.status, done.stderr]).toEqual([
    2,
    "Usage: node scripts/setup.mjs start|test|bench|bench:gpu|bench:judge [--no-install]\n",
  ]);
});

/** Static imports of a script and of every script that it imports. */
function importsFrom(file: string, seen = new Set<string>()): string[] {
  if (seen.has(file)) return [];
  seen.add(file);
  const text = readFileSync(join(packageRoot, "scripts", file), "utf8");
  const direct = [...text.matchAll(/^(?:import|\} from).*"([^"]+)";$/gm)].map(([, target]) => target!);
  const ours = direct.filter((target) => target.startsWith("./"));
  return [...direct, ...ours.flatMap((target) => importsFrom(target.slice(2), seen))];
}

test.each(["start.mjs", "test.mjs", "build.mjs"])("scripts/%s runs before any npm package exists", (file) => {
  const imports = importsFrom(file);
  expect(imports.length).toBeGreaterThan(5);
  expect(imports.filter((target) => !target.startsWith("node:") && !target.startsWith("./"))).toEqual([]);
});

const green = { numPassedTests: 7, numFailedTests: 0, numPendingTests: 2, numTodoTests: 1, testResults: [] };

test.each([
  {
    name: "all well",
    results: green,
    gates: [true, true],
    isGreen: true,
    want: { passed: 9, failed: 0, skipped: 3 },
  },
  {
    name: "a gate",
    results: green,
    gates: [false, true],
    isGreen: true,
    want: { passed: 8, failed: 1, skipped: 3 },
  },
  {
    name: "a file that does not load",
    results: { ...green, testResults: [{ status: "failed", assertionResults: [] }] },
    gates: [],
    isGreen: false,
    want: { passed: 7, failed: 1, skipped: 3 },
  },
  {
    name: "an error outside of tests",
    results: green,
    gates: [],
    isGreen: false,
    want: { passed: 7, failed: 1, skipped: 3 },
  },
  {
    name: "no results at all",
    results: null,
    gates: [],
    isGreen: false,
    want: { passed: 0, failed: 1, skipped: 0 },
  },
])("counts: $name", ({ results, gates, isGreen, want }) => {
  expect(countTests(results, gates, isGreen)).toEqual(want);
});
