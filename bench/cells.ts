/** What is measured: each cell is one policy at one piece of work. */
export const TABLES = ["train", "sample", "llama"] as const;
export type TableName = (typeof TABLES)[number];

/** Rows of `length` tokens in one training step, `steps` of them in a turn. */
export interface TrainWork {
  readonly kind: "train";
  readonly rows: number;
  readonly length: number;
  readonly steps: number;
}

/** `prompts` x `samples` sequences decoded at once, completions of equal length. */
export interface SampleWork {
  readonly kind: "sample";
  readonly prompts: number;
  readonly samples: number;
  readonly promptLength: number;
  readonly newTokens: number;
}

export interface Cell {
  readonly id: string;
  readonly table: TableName;
  /** Name in POLICIES. */
  readonly policy: string;
  readonly work: TrainWork | SampleWork;
  /** GiB that both sides need together; where less is free the cell is left out, and that is said. */
  readonly needsGib: number;
  /** In every run; in runs without `--quick`; only with `--long`. */
  readonly run: "quick" | "usual" | "long";
}

type Run = Cell["run"];

/** [rows, length, steps in a turn, GiB, run] */
const TRAINING: Readonly<Record<string, readonly (readonly [number, number, number, number, Run])[]>> = {
  tiny: [[4, 32, 2, 1, "quick"]],
  "1M": [
    [8, 256, 5, 1, "quick"],
    [2, 1024, 5, 1, "usual"],
    [1, 4096, 1, 5, "usual"],
  ],
  "10M": [
    [8, 256, 1, 2, "quick"],
    [2, 1024, 1, 2, "usual"],
    [1, 4096, 1, 12, "long"],
  ],
  "100M": [
    [4, 256, 1, 8, "quick"],
    [1, 1024, 1, 8, "usual"],
    [1, 4096, 1, 20, "long"],
  ],
};

/** [prompts, samples of each, prompt length, new tokens, GiB, run] */
const SAMPLING: Readonly<
  Record<string, readonly (readonly [number, number, number, number, number, Run])[]>
> = {
  tiny: [[2, 4, 8, 8, 1, "quick"]],
  "1M": [
    [1, 1, 192, 64, 1, "usual"],
    [2, 8, 192, 64, 1, "quick"],
    [16, 8, 192, 64, 1, "usual"],
    [2, 8, 960, 64, 1, "usual"],
    [2, 8, 4032, 64, 8, "usual"],
  ],
  "10M": [
    [1, 1, 192, 64, 1, "usual"],
    [2, 8, 192, 64, 1, "quick"],
    [16, 8, 192, 64, 2, "usual"],
    [2, 8, 960, 64, 1, "usual"],
    [2, 8, 4032, 64, 14, "long"],
  ],
  "100M": [
    [1, 1, 224, 32, 4, "usual"],
    [2, 8, 224, 32, 4, "quick"],
    [8, 16, 240, 16, 6, "usual"],
    [2, 8, 992, 32, 5, "usual"],
    [2, 8, 4064, 32, 16, "long"],
  ],
};

/** Prompts of 16 tokens, one for each sequence: [sequences, new tokens, GiB, run]. */
const AGAINST_LLAMA: Readonly<Record<string, readonly (readonly [number, number, number, Run])[]>> = {
  tiny: [[4, 8, 1, "quick"]],
  "1M": [
    [1, 128, 1, "usual"],
    [16, 128, 1, "quick"],
    [64, 128, 1, "long"],
    [128, 128, 1, "usual"],
  ],
  "10M": [
    [1, 64, 1, "usual"],
    [16, 64, 1, "quick"],
    [64, 64, 1, "long"],
    [128, 64, 1, "usual"],
  ],
  "100M": [
    [1, 32, 4, "usual"],
    [16, 32, 4, "quick"],
    [64, 32, 4, "long"],
    [128, 16, 4, "usual"],
  ],
};

/** Every cell there is, in the order of the tables. */
export const CELLS: readonly Cell[] = [
  ...Object.entries(TRAINING).flatMap(([policy, cells]) =>
    cells.map(([rows, length, steps, needsGib, run]): Cell => {
      const work = { kind: "train", rows, length, steps } as const;
      return { id: `train ${policy} ${rows}x${length}`, table: "train", policy, work, needsGib, run };
    }),
  ),
  ...Object.entries(SAMPLING).flatMap(([policy, cells]) =>
    cells.map(([prompts, samples, promptLength, newTokens, needsGib, run]): Cell => {
      const work = { kind: "sample", prompts, samples, promptLength, newTokens } as const;
      const id = `sample ${policy} ${prompts * samples}x${promptLength + newTokens}`;
      return { id, table: "sample", policy, work, needsGib, run };
    }),
  ),
  ...Object.entries(AGAINST_LLAMA).flatMap(([policy, cells]) =>
    cells.map(([prompts, newTokens, needsGib, run]): Cell => {
      const work = { kind: "sample", prompts, samples: 1, promptLength: 16, newTokens } as const;
      return {
        id: `llama ${policy} ${prompts}x${16 + newTokens}`,
        table: "llama",
        policy,
        work,
        needsGib,
        run,
      };
    }),
  ),
];

export interface Selection {
  readonly tables: readonly TableName[];
  /** Names in POLICIES. */
  readonly policies: readonly string[];
  /** The longest kind of run wanted. */
  readonly run: Run;
}

const RUNS: readonly Run[] = ["quick", "usual", "long"];

export const selectedCells = ({ tables, policies, run }: Selection): Cell[] =>
  CELLS.filter(
    (cell) =>
      tables.includes(cell.table) &&
      policies.includes(cell.policy) &&
      RUNS.indexOf(cell.run) <= RUNS.indexOf(run),
  );

/** Tokens that one turn of a work yields. */
export const tokensOfTurn = (work: TrainWork | SampleWork): number =>
  work.kind === "train" ? work.rows * work.length * work.steps : work.prompts * work.samples * work.newTokens;
