/** Who is measured, and the settings that each one is tried at. */
import { join } from "node:path";
import { builtModule, packageRoot } from "../core/index.js";
import type { TableName } from "./cells.js";
import { type Contestant, type Setting, startContestant } from "./contestant.js";

export interface Side {
  readonly name: string;
  readonly device: string;
  /** Its first turn at a setting is slower than all others. */
  readonly compiles: boolean;
  /** How many times further apart than float32 on both sides its numbers may be. */
  readonly tolerance?: number;
  start(): Contestant;
  settings(kind: "train" | "sample"): readonly Setting[];
}

export const retort = (device = "cpu"): Side => ({
  name: "Retort",
  device,
  compiles: true,
  start: () => startContestant("Retort", [process.execPath, builtModule("bench/retort.js")], {}),
  settings: () => (device === "cpu" ? [{ threads: 1 }, { threads: 2 }] : [{ threads: 2 }]),
});

/**
 * PyTorch's own threads and those of OpenBLAS are two pools, so they are tried apart too; so is the way to compute attention
 * with one query.
 */
const PYTORCH_THREADS: readonly Setting[] = [
  { threads: 1, blas: 1 },
  { threads: 2, blas: 2 },
  { threads: 1, blas: 2 },
];

/** @param python - an interpreter that has PyTorch */
export const pytorch = (device = "cpu", python = "/usr/bin/python3"): Side => ({
  name: "PyTorch",
  device,
  compiles: device !== "cpu",
  start: () =>
    startContestant("PyTorch", [python, join(packageRoot, "bench", "pytorch", "contestant.py")], {
      PYTHONDONTWRITEBYTECODE: "1",
    }),
  settings: (kind) => {
    if (device !== "cpu")
      return ["products", "fused"].map((attention) => ({ threads: 2, blas: 2, attention }));
    const attention = kind === "train" ? ["products"] : ["products", "sums"];
    return attention.flatMap((how) => PYTORCH_THREADS.map((threads) => ({ ...threads, attention: how })));
  },
});

/** @param home - the folder that has node-llama-cpp in its node_modules */
export const llamaCpp = (home: string): Side => ({
  name: "llama.cpp",
  device: "cpu",
  compiles: true, // in so far as it reads its weights anew
  tolerance: 50, // its cache is in half precision, and so may its weights be
  start: () =>
    startContestant("llama.cpp", [process.execPath, builtModule("bench/llama/contestant.js"), home], {}),
  settings: () =>
    (["F32", "F16"] as const).flatMap((weights) => [1, 2].map((threads) => ({ threads, weights }))),
});

/** The two sides of a table. */
export const sidesOf = (table: TableName, llamaHome: string): readonly [Side, Side] => [
  retort(),
  table === "llama" ? llamaCpp(llamaHome) : pytorch(),
];

/** A setting in words. */
export function inWords({ threads, blas, attention, weights }: Setting): string {
  const pools = blas === undefined || blas === threads ? `${threads}` : `${threads}, BLAS ${blas}`;
  return [pools, attention === "products" ? undefined : attention, weights].filter(Boolean).join(" ");
}
