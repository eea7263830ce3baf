/** From measured rates to the table. */
import type { Rates } from "./measure.js";
import { type BenchShape, floatingPointOperations } from "./shapes.js";

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** One side at one number of threads. */
export interface Row {
  readonly side: string;
  readonly threads: string;
  /** Tokens per second, median over the rounds; null where not measured. */
  readonly train: number | null;
  readonly sample: number;
  /** GFLOP/s that these mean. */
  readonly train_gflops: number | null;
  readonly sample_gflops: number;
}

/** What one shape's measurements come to. */
export interface Summary {
  readonly shape: string;
  readonly rows: Row[];
  /** Best of ours over best of theirs; the median over rounds of the two settings with the best medians. */
  readonly ratios: { readonly train: number; readonly sample: number };
}

export function summarize(shape: BenchShape, rates: readonly Rates[]): Summary {
  const operations = floatingPointOperations(shape);
  const rows = rates.map(({ contestant, train, sample }) => ({
    side: contestant.name,
    threads: contestant.threads,
    train: train.length === 0 ? null : median(train),
    sample: median(sample),
    train_gflops: train.length === 0 ? null : (median(train) * operations.trainPerToken) / 1e9,
    sample_gflops: (median(sample) * operations.samplePerToken) / 1e9,
  }));
  return {
    shape: shape.name,
    rows,
    ratios: { train: ratio(rates, "train"), sample: ratio(rates, "sample") },
  };
}

/** Turns of one round follow each other at once, so their quotient is compared, round by round. */
function ratio(rates: readonly Rates[], kind: "train" | "sample"): number {
  const best = (isOurs: boolean): readonly number[] =>
    rates
      .filter(({ contestant }) => (contestant.name === "Retort") === isOurs)
      .map((rate) => rate[kind])
      .filter((numbers) => numbers.length > 0)
      .reduce((a, b) => (median(b) > median(a) ? b : a));
  const [ours, theirs] = [best(true), best(false)];
  return median(ours.map((rate, round) => rate / theirs[round]!));
}

const cell = (text: string, width: number): string => text.padStart(width);

/** The table of one shape as lines of text. */
export function tableOf({ shape, rows, ratios }: Summary, peakGflops: number): string[] {
  const line = ({ side, threads, ...row }: Row): string => {
    const rate = (tokens: number | null): string =>
      tokens === null ? "-" : Math.round(tokens).toLocaleString("en");
    const share = (gflops: number | null): string =>
      gflops === null ? "-" : `${Math.round((100 * gflops) / peakGflops)} %`;
    return [
      side.padEnd(26),
      threads.padEnd(22),
      cell(rate(row.train), 10),
      cell(share(row.train_gflops), 6),
      cell(rate(row.sample), 10),
      cell(share(row.sample_gflops), 6),
    ].join(" ");
  };
  return [
    shape,
    `${"".padEnd(49)} ${cell("training", 10)} ${cell("peak", 6)} ${cell("sampling", 10)} ${cell("peak", 6)}`,
    ...rows.map(line),
    `best of Retort over best of PyTorch: training ${ratios.train.toFixed(2)}x, sampling ${ratios.sample.toFixed(2)}x`,
  ];
}
