/** From measured rates to the table. */
import { isRetort, type Rates, type Turn } from "./measure.js";
import { type BenchShape, floatingPointOperations } from "./shapes.js";

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Medians over the turns of one setting. */
export interface Speed {
  readonly tokens_per_s: number;
  readonly tokens_per_cpu_s: number;
  readonly gflops: number;
}

/** One side at one number of threads; training is null where it is not measured. */
export interface Row {
  readonly side: string;
  readonly threads: string;
  readonly train: Speed | null;
  readonly sample: Speed;
}

/** What one shape's measurements come to. */
export interface Summary {
  readonly shape: string;
  readonly rows: Row[];
  /** Each side at its best setting: median over the rounds of ours over theirs. */
  readonly ratios: { readonly train: number; readonly sample: number };
  /** The same of tokens per second of CPU time, both on one thread. */
  readonly cpu_ratios: { readonly train: number; readonly sample: number };
}

const speedOf = (turns: readonly Turn[], operationsPerToken: number): Speed => {
  const tokensPerSecond = median(turns.map(({ wall }) => wall));
  return {
    tokens_per_s: tokensPerSecond,
    tokens_per_cpu_s: median(turns.map(({ cpu }) => cpu)),
    gflops: (tokensPerSecond * operationsPerToken) / 1e9,
  };
};

export function summarize(shape: BenchShape, rates: readonly Rates[]): Summary {
  const { trainPerToken, samplePerToken } = floatingPointOperations(shape);
  const rows = rates.map(({ contestant, train, sample }) => ({
    side: contestant.name,
    threads: contestant.threads,
    train: train.length === 0 ? null : speedOf(train, trainPerToken),
    sample: speedOf(sample, samplePerToken),
  }));
  const single = rates.filter(({ contestant }) => contestant.threads === "1");
  return {
    shape: shape.name,
    rows,
    ratios: { train: ratio(rates, "train", "wall"), sample: ratio(rates, "sample", "wall") },
    cpu_ratios: { train: ratio(single, "train", "cpu"), sample: ratio(single, "sample", "cpu") },
  };
}

/** Turns of one round follow each other at once, so their quotient is taken round by round. */
function ratio(rates: readonly Rates[], kind: "train" | "sample", clock: "wall" | "cpu"): number {
  const middle = (turns: readonly Turn[]): number => median(turns.map((turn) => turn[clock]));
  const best = (isOurs: boolean): readonly Turn[] =>
    rates
      .filter(({ contestant }) => isRetort(contestant) === isOurs)
      .map((rate) => rate[kind])
      .filter((turns) => turns.length > 0)
      .reduce((a, b) => (middle(b) > middle(a) ? b : a));
  const [ours, theirs] = [best(true), best(false)];
  const quotients = ours.flatMap((turn) => {
    const other = theirs.find(({ round }) => round === turn.round);
    return other ? [turn[clock] / other[clock]] : [];
  });
  return median(quotients);
}

/** The table of one shape as lines of text. */
export function tableOf(summary: Summary, peakGflops: number): string[] {
  const cells = (speed: Speed | null): string => {
    if (speed === null) return "-".padStart(9) + "-".padStart(9) + "-".padStart(7);
    const whole = (value: number): string => Math.round(value).toLocaleString("en").padStart(9);
    const share = `${Math.round((100 * speed.gflops) / peakGflops)} %`;
    return whole(speed.tokens_per_s) + whole(speed.tokens_per_cpu_s) + share.padStart(7);
  };
  const line = ({ side, threads, train, sample }: Row): string =>
    `${side.padEnd(20)}${threads.padEnd(15)}${cells(train)}   ${cells(sample)}`;
  const columns = `${"/s".padStart(9)}${"/CPU s".padStart(9)}${"peak".padStart(7)}`;
  const times = ({ train, sample }: { train: number; sample: number }): string =>
    `training ${train.toFixed(2)}x, sampling ${sample.toFixed(2)}x`;
  return [
    summary.shape,
    `${"tokens".padEnd(20)}${"threads".padEnd(15)}${"training".padStart(25)}   ${"sampling".padStart(25)}`,
    `${"".padEnd(35)}${columns}   ${columns}`,
    ...summary.rows.map(line),
    `Retort over PyTorch, each at its best: ${times(summary.ratios)}`,
    `CPU time on one thread:                ${times(summary.cpu_ratios)}`,
  ];
}
