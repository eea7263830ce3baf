/**
 * Writes docs/languages-checked.md: what `retort languages check --json` says on this machine about every shipped language.
 *   node scripts/languages-checked.mjs
 */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { build, root } from "./build.mjs";
import { distribution } from "./host.mjs";

const args = ["languages", "check", "--json"];
build();
const run = spawnSync(process.execPath, [join(root, "dist", "cli", "main.js"), ...args], {
  encoding: "utf8",
  maxBuffer: 1 << 26,
});
if (run.stdout === "") {
  process.stderr.write(run.stderr);
  process.exit(1);
}

/** @type {{ name: string, status: string, version: string | null, install: string | null, reason?: string, notes?: string[] }[]} */
const rows = JSON.parse(run.stdout);
/** @param {string} text */
const cell = (text) => text.replaceAll("|", "\\|").replaceAll("\n", "; ");
/** @param {string | null} install */
const howTo = (install) => cell((install ?? "").replace(/^apt-get install -y /, ""));
const table = rows.map(
  ({ name, status, version, install }) =>
    `| ${name} | ${status} | ${cell(version ?? "")} | ${howTo(install)} |`,
);
const counts = ["ok", "failed", "missing", "untested"]
  .map((status) => `${rows.filter((row) => row.status === status).length} ${status}`)
  .join(", ");

writeFileSync(
  join(root, "docs", "languages-checked.md"),
  `# Every language, run once

\`retort ${args.join(" ")}\` on ${distribution().name}, ${new Date().toISOString().slice(0, 10)}; Node ${process.version};
written by \`node scripts/languages-checked.mjs\`. ${counts}.

\`ok\`: its self-test and its examples (a compile error, a run-time error, a wrong answer, a time limit) ended as its files
say, and earned the feedback that stands there, to the letter. \`untested\`: nobody has run it; it is no Debian 12 package.

| language | status | version | Debian packages, or how to install |
|---|---|---|---|
${table.join("\n")}

## The log

\`\`\`json
[
${rows.map((row) => `  ${JSON.stringify(row)}`).join(",\n")}
]
\`\`\`
`,
);
process.stderr.write(`${counts}; exit code ${run.status}\n`);
process.exitCode = run.status ?? 1;
