/** Measures cells one after another: the policies' files, what is left out, what is kept. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Cell } from "./cells.js";
import { type CellResult, duel } from "./duel.js";
import { type KeptResults, openKept } from "./kept.js";
import { availableGib } from "./machine.js";
import { POLICIES } from "./policies.js";
import { writePolicyFiles } from "./policy-files.js";
import type { Side } from "./sides.js";
import { ratioOf } from "./summary.js";

export interface RunOptions {
  readonly cells: readonly Cell[];
  readonly sidesOf: (cell: Cell) => readonly [Side, Side];
  readonly rounds: number;
  /** Where results are kept while the run is under way. */
  readonly keptFile: string;
  /** Of machine, program and settings. */
  readonly identity: string;
  /** MiB in use on the GPU, where there is one. */
  readonly deviceMib?: () => number | null;
  readonly say: (line: string) => void;
}

export interface RunResult {
  readonly cells: Readonly<Record<string, CellResult>>;
  /** Why a cell was not measured, by its id. */
  readonly leftOut: Readonly<Record<string, string>>;
}

export async function runCells(options: RunOptions): Promise<RunResult> {
  const { cells, say } = options;
  const home = mkdtempSync(join(tmpdir(), "retort-bench-"));
  const clear = (): void => rmSync(home, { recursive: true, force: true });
  process.on("exit", clear);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));
  const kept = openKept(options.keptFile, options.identity);
  const leftOut: Record<string, string> = {};
  const started = performance.now();
  for (const [index, cell] of cells.entries()) {
    const minutes = ((performance.now() - started) / 60_000).toFixed(1);
    say(`${index + 1}/${cells.length} ${cell.id} (${minutes} min)`);
    if (kept.cells[cell.id] !== undefined) {
      say("    kept from a run that broke; --fresh measures anew");
      continue;
    }
    const free = availableGib();
    if (free < cell.needsGib) {
      leftOut[cell.id] = `needs ${cell.needsGib} GiB, ${free.toFixed(1)} were free`;
      say(`    left out: ${leftOut[cell.id]}`);
      continue;
    }
    try {
      await kept.keep(await measured(cell, home, kept, options));
    } catch (error) {
      // One cell that fails, or whose sides disagree, must not cost the others.
      leftOut[cell.id] = `failed: ${(error as Error).message}`;
      say(`    ${leftOut[cell.id]}`);
      process.exitCode = 1;
    }
  }
  clear();
  const results = { cells: { ...kept.cells }, leftOut };
  kept.forget();
  return results;
}

async function measured(
  cell: Cell,
  home: string,
  kept: KeptResults,
  options: RunOptions,
): Promise<CellResult> {
  const { rounds, say, deviceMib = () => null } = options;
  const folder = join(home, cell.policy);
  await writePolicyFiles(folder, cell.policy, cell.table === "llama");
  const arena = { config: POLICIES[cell.policy]!, folder, rounds, best: kept.best, deviceMib, say };
  const result = await duel(cell, options.sidesOf(cell), arena);
  const { median, least, most } = ratioOf(result);
  const apart = result.difference.toExponential(0);
  say(`    ratio ${median.toFixed(2)} (${least.toFixed(2)}-${most.toFixed(2)}); both agree within ${apart}`);
  return result;
}
