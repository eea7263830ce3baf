/** Measurements of one shape, all contestants in turns, so that a busy minute of the machine hits them alike. */
import { randomStream } from "../core/index.js";
import type { Contestant } from "./contestant.js";
import type { BenchShape } from "./shapes.js";

/** What one contestant did in its turns. */
export interface Rates {
  readonly contestant: Contestant;
  readonly train: Turn[];
  readonly sample: Turn[];
}

/** Tokens per second of one turn; per second of CPU time too, which a busy machine changes less. */
export interface Turn {
  readonly round: number;
  readonly wall: number;
  readonly cpu: number;
}

/** A setting this many times slower than its side's best sits out the rounds after the first. */
const HOPELESS = 3;

/** Random token ids, [rows][length]. */
export function tokenRows(rows: number, length: number, vocabulary: number, stream: string): number[][] {
  const random = randomStream(0, stream);
  return Array.from({ length: rows }, () => Array.from({ length }, () => random.integer(vocabulary)));
}

/** Throws unless two contestants, given the same weights, agree in their losses over some steps and in greedy sampling. */
export async function checkAgreement(
  ours: Contestant,
  theirs: Contestant,
  shape: BenchShape,
): Promise<{ loss: number; logProb: number }> {
  const { vocabulary } = shape.config;
  const prompts = tokenRows(4, 12, vocabulary, "agreement");
  const request = { prompts, samples: 2, new_tokens: 12, greedy: true };
  const [mine, other] = [await ours.ask("sample", request), await theirs.ask("sample", request)];
  if (JSON.stringify(mine.ids) !== JSON.stringify(other.ids))
    throw new Error(`${theirs.name} continues the same prompts with other tokens`);
  const logProb = worst(mine.log_probs!.flat(), other.log_probs!.flat());
  const ids = tokenRows(shape.train.rows, shape.train.length, vocabulary, "train");
  const [a, b] = [await ours.ask("train", { ids, steps: 3 }), await theirs.ask("train", { ids, steps: 3 })];
  const loss = worst(a.losses, b.losses);
  if (!(logProb < 1e-3 && loss < 1e-3))
    throw new Error(`${theirs.name} differs: log-probs by ${logProb}, losses of 3 steps by ${loss}`);
  return { loss, logProb };
}

const worst = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

/** Runs `rounds` turns; each contestant has warmed up before. */
export async function measure(
  contestants: readonly Contestant[],
  shape: BenchShape,
  rounds: number,
  onRound: (round: number) => void,
): Promise<Rates[]> {
  const { train, sample, config } = shape;
  const ids = tokenRows(train.rows, train.length, config.vocabulary, "train");
  const prompts = tokenRows(sample.prompts, sample.promptLength, config.vocabulary, "prompts");
  const request = { prompts, samples: sample.samples, new_tokens: sample.newTokens };
  const rates = contestants.map((contestant): Rates => ({ contestant, train: [], sample: [] }));
  for (const contestant of contestants) {
    if (contestant.trains) await contestant.ask("train", { ids, steps: 1 });
    await contestant.ask("sample", request);
  }
  for (let round = 0; round < rounds; round++) {
    onRound(round);
    for (const own of rates.filter(({ contestant }) => contestant.trains)) {
      if (isHopeless(own, rates, "train")) continue;
      const { seconds, cpu_seconds } = await own.contestant.ask("train", { ids, steps: train.steps });
      const tokens = train.rows * train.length * train.steps;
      own.train.push({ round, wall: tokens / seconds, cpu: tokens / cpu_seconds });
    }
    for (const own of rates) {
      if (isHopeless(own, rates, "sample")) continue;
      const { seconds, cpu_seconds, tokens } = await own.contestant.ask("sample", request);
      own.sample.push({ round, wall: tokens / seconds, cpu: tokens / cpu_seconds });
    }
  }
  return rates;
}

/** Whether a first turn was so slow that more of them would only take time. */
function isHopeless(own: Rates, rates: readonly Rates[], kind: "train" | "sample"): boolean {
  const first = own[kind][0];
  const side = rates.filter(({ contestant }) => isRetort(contestant) === isRetort(own.contestant));
  const best = Math.max(...side.map((rate) => rate[kind][0]?.wall ?? 0));
  return first !== undefined && first.wall * HOPELESS < best;
}

export const isRetort = ({ name }: Contestant): boolean => name === "Retort";
