/**
 * `npm test`: sets up, then runs everything that CI runs. The last line counts tests; types and format are one each.
 *   npm test -- --no-install      only checks that all is there, installs nothing
 *   npm test -- test/tensor       only some tests
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { root } from "./build.mjs";
import { setupOrExit } from "./setup.mjs";
import { SWIFTSHADER } from "./system-packages.mjs";
import { countTests } from "./test-counts.mjs";

/** @param {string} name @param {string[]} args of node @returns {boolean} whether it passed */
function check(name, args) {
  process.stdout.write(`\n== ${name}\n`);
  const done = spawnSync(process.execPath, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    // Vulkan by SwiftShader: WebGPU is tested on the CPU, whatever the machine has.
    env: { ...process.env, VK_DRIVER_FILES: SWIFTSHADER, VK_ICD_FILENAMES: SWIFTSHADER },
  });
  return done.status === 0;
}

const args = process.argv.slice(2);
await setupOrExit("test", args);
const results = join(root, ".cache", "test-results.json");
mkdirSync(join(root, ".cache"), { recursive: true });
rmSync(results, { force: true });

const gates = [
  check("types", ["node_modules/typescript/bin/tsc", "-p", "tsconfig.json", "--noEmit"]),
  check("format and lint", ["node_modules/@biomejs/biome/bin/biome", "check", "--error-on-warnings", "."]),
];
const tests = [
  "node_modules/vitest/vitest.mjs",
  "run",
  "--reporter=default",
  "--reporter=json",
  `--outputFile.json=${results}`,
];
const isGreen = check("tests", [...tests, ...args.filter((arg) => arg !== "--no-install")]);

const counts = countTests(
  existsSync(results) ? JSON.parse(readFileSync(results, "utf8")) : null,
  gates,
  isGreen,
);
process.stdout.write(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`);
process.exitCode = counts.failed === 0 ? 0 : 1;
