/** Results of a run that is under way, kept so that a run that broke goes on where it was. */
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { replaceFile } from "../checkpoints/index.js";
import type { Setting } from "./contestant.js";
import type { CellResult } from "./duel.js";

interface Kept {
  readonly identity: string;
  readonly cells: Record<string, CellResult>;
  readonly best: [string, Setting][];
}

export interface KeptResults {
  readonly cells: Record<string, CellResult>;
  readonly best: Map<string, Setting>;
  keep(result: CellResult): Promise<void>;
  /** The run is done: the next one measures anew. */
  forget(): void;
}

/** @param identity - of what is measured and how: results of another are not taken over */
export function openKept(file: string, identity: string): KeptResults {
  const found = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Kept) : null;
  const isOurs = found?.identity === identity;
  const cells = isOurs ? found.cells : {};
  const best = new Map(isOurs ? found.best : []);
  return {
    cells,
    best,
    keep: async (result) => {
      cells[result.id] = result;
      mkdirSync(dirname(file), { recursive: true });
      await replaceFile(file, JSON.stringify({ identity, cells, best: [...best] } satisfies Kept));
    },
    forget: () => rmSync(file, { force: true }),
  };
}
