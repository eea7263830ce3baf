/** `npm run bench`: training and sampling, Retort against PyTorch and llama.cpp, on this machine. */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../core/index.js";
import { selectedCells, TABLES, type TableName } from "./cells.js";
import { machineName } from "./machine.js";
import { readOptions } from "./options.js";
import { runCells } from "./run.js";
import { sidesOf } from "./sides.js";
import { tableOf } from "./summary.js";

const HELP = `npm run bench -- [options]
  --only train,sample,llama   tables (default: all three)
  --policies 1M,10M,100M      sizes (default: all three)
  --quick                     one cell of each size and table, two rounds
  --long                      4096 tokens at 10M and 100M too; 64 sequences against llama.cpp
  --rounds N                  turns of each side in each cell (default 3)
  --fresh                     measure anew what a run that broke has left
  --json                      the numbers as JSON
`;

const TITLES: Readonly<Record<TableName, string>> = {
  train: "Training step: forward, backward, AdamW",
  sample: "Sampling: groups of 8 or 16 completions share a prompt; its prefill counts",
  llama: "Sampling against llama.cpp: a prompt of 16 tokens for each sequence",
};

const options = readOptions(HELP, TABLES);
const machine = machineName();
const build = readFileSync(join(packageRoot, "dist", ".build-stamp"), "utf8");
const keptFile = join(packageRoot, ".cache", "bench", "under-way.json");
if (options.isFresh) rmSync(keptFile, { force: true });
const cells = selectedCells(options);
const { rounds } = options;
const llamaHome = join(packageRoot, ".cache", "llama");
const { cells: results, leftOut } = await runCells({
  cells,
  sidesOf: ({ table }) => sidesOf(table, llamaHome),
  rounds,
  keptFile,
  identity: JSON.stringify({ machine, build, rounds }),
  say: (line) => process.stderr.write(`${line}\n`),
});
if (options.isJson) {
  const report = { machine, rounds, cells: results, left_out: leftOut };
  process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
} else {
  process.stdout.write(`${machine}; ${rounds} rounds; median ratio (least-most)\n`);
  for (const table of options.tables) {
    const own = cells.filter((cell) => cell.table === table);
    if (own.length > 0)
      process.stdout.write(`\n${TITLES[table]}\n\n${tableOf(own, results, leftOut).join("\n")}\n`);
  }
}
