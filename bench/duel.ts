/** One cell of a table: two sides at the same work, in turns, so that a busy minute of the machine hits both alike. */
import { randomStream } from "../core/index.js";
import type { DecoderConfig } from "../policy/index.js";
import { type Cell, tokensOfTurn } from "./cells.js";
import type { Contestant, OpenRequest, SampleAnswer, Setting, TrainAnswer } from "./contestant.js";
import { watchOthers } from "./machine.js";
import { inWords, type Side } from "./sides.js";
import { median } from "./summary.js";

export interface Turn {
  readonly tokens_per_s: number;
  readonly cpu_seconds: number;
  /** Share of the machine's CPUs that other programs used meanwhile. */
  readonly others: number;
}

export interface SideResult {
  readonly side: string;
  readonly setting: Setting;
  /** One for each round. */
  readonly turns: readonly Turn[];
  readonly peak_bytes: number;
  /** What its start and first turn added to the memory in use on the GPU; null without one. */
  readonly device_mib: number | null;
  readonly version: string;
}

export interface CellResult {
  readonly id: string;
  readonly sides: readonly [SideResult, SideResult];
  /** How far apart the two sides' numbers were before anything was timed: losses of steps, or log-probs of tokens. */
  readonly difference: number;
}

export interface Arena {
  readonly config: DecoderConfig;
  /** Of the policy's files. */
  readonly folder: string;
  readonly rounds: number;
  /** Settings found best so far, by side and work alike; filled as cells are measured. */
  readonly best: Map<string, Setting>;
  /** MiB in use on the GPU, null without one. */
  readonly deviceMib: () => number | null;
  readonly say: (line: string) => void;
}

/** Greatest difference of losses, and of log-probs in float32. */
const TOLERANCE = 1e-3;

/** Trying a setting is not repeated after so many seconds; what is timed is repeated until it has taken as long as a round. */
const [TRIAL_S, ROUND_S] = [0.5, 1];

const ADAMW = { lr: 5e-4, betas: [0.9, 0.98], weight_decay: 0.01 } as const;

/** Random token ids, [rows][length]. */
function tokenRows(rows: number, length: number, vocabulary: number, stream: string): number[][] {
  const random = randomStream(0, stream);
  return Array.from({ length: rows }, () => Array.from({ length }, () => random.integer(vocabulary)));
}

type Answer = TrainAnswer | SampleAnswer;

/** Asks for one turn of a work. */
function turnOf(
  work: Cell["work"],
  config: DecoderConfig,
): (contestant: Contestant, greedy?: boolean) => Promise<Answer> {
  if (work.kind === "train") {
    const ids = tokenRows(work.rows, work.length, config.vocabulary, "train");
    return (contestant) => contestant.ask("train", { ids, steps: work.steps });
  }
  const prompts = tokenRows(work.prompts, work.promptLength, config.vocabulary, "prompts");
  const request = { prompts, samples: work.samples, new_tokens: work.newTokens };
  return (contestant, greedy = false) => contestant.ask("sample", { ...request, greedy });
}

async function started(side: Side, folder: string): Promise<{ contestant: Contestant; version: string }> {
  const contestant = side.start();
  const request: OpenRequest = { folder, device: side.device, adamw: ADAMW };
  const { version } = await contestant.ask("open", request);
  return { contestant, version };
}

/** What settings are tried on: in sampling a shorter prompt and completion, which is enough to choose by. */
const trialOf = (work: Cell["work"]): Cell["work"] =>
  work.kind === "train" ? work : { ...work, promptLength: Math.min(work.promptLength, 32), newTokens: 8 };

/** A shared machine is busy now and then for a moment: the least of three turns, or of fewer that took long. */
async function leastSeconds(turn: () => Promise<Answer>): Promise<number> {
  let [least, all] = [Number.POSITIVE_INFINITY, 0];
  for (let turns = 0; turns < 3 && all < TRIAL_S; turns++) {
    const { seconds } = await turn();
    all += seconds;
    least = Math.min(least, seconds);
  }
  return least;
}

/** Tries a side's settings, the first (and what compiles: every) one after a turn to warm up. */
async function bestSetting(side: Side, cell: Cell, arena: Arena): Promise<Setting> {
  const { work, policy, table } = cell;
  const slots = work.kind === "train" ? "" : work.prompts * work.samples;
  const key = `${side.name} ${table} ${policy} ${slots}`;
  const known = arena.best.get(key);
  if (known !== undefined) return known;
  const trial = trialOf(work);
  const turn = turnOf(trial, arena.config);
  const { contestant } = await started(side, arena.folder);
  let best: { setting: Setting; seconds: number } | null = null;
  for (const setting of side.settings(work.kind)) {
    await contestant.ask("configure", setting);
    if (best === null || side.compiles) await turn(contestant);
    const seconds = await leastSeconds(() => turn(contestant));
    arena.say(`    ${side.name} ${inWords(setting)}: ${Math.round(tokensOfTurn(trial) / seconds)} tokens/s`);
    if (best === null || seconds < best.seconds) best = { setting, seconds };
  }
  await contestant.close();
  arena.best.set(key, best!.setting);
  return best!.setting;
}

/** A side that is ready to be timed. */
interface Ready {
  readonly contestant: Contestant;
  readonly version: string;
  readonly setting: Setting;
  /** Greedy, and not timed: it warms up, and must be what the other side's is. */
  readonly first: Answer;
  readonly deviceMib: number | null;
}

async function readied(side: Side, cell: Cell, arena: Arena): Promise<Ready> {
  const setting = await bestSetting(side, cell, arena);
  const before = arena.deviceMib();
  const { contestant, version } = await started(side, arena.folder);
  await contestant.ask("configure", setting);
  const first = await turnOf(cell.work, arena.config)(contestant, true);
  const after = arena.deviceMib();
  const deviceMib = before === null || after === null ? null : after - before;
  return { contestant, version, setting, first, deviceMib };
}

/** Measures one cell. @throws Error when the two sides do not compute the same */
export async function duel(cell: Cell, sides: readonly [Side, Side], arena: Arena): Promise<CellResult> {
  const turn = turnOf(cell.work, arena.config);
  const ready: Ready[] = [];
  try {
    for (const side of sides) ready.push(await readied(side, cell, arena));
    const answers = ready.map(({ first }) => [first]);
    const turns = ready.map((): Turn[] => []);
    for (let round = 0; round < arena.rounds; round++) {
      for (const [index, { contestant }] of ready.entries()) {
        const others = watchOthers();
        let [tokens, seconds, cpu_seconds] = [0, 0, 0];
        while (seconds < ROUND_S) {
          const answer = await turn(contestant);
          answers[index]!.push(answer);
          tokens += tokensOfTurn(cell.work);
          seconds += answer.seconds;
          cpu_seconds += answer.cpu_seconds;
        }
        turns[index]!.push({ tokens_per_s: tokens / seconds, cpu_seconds, others: others(cpu_seconds) });
      }
    }
    const result = (index: 0 | 1): SideResult => ({
      side: sides[index].name,
      setting: ready[index]!.setting,
      turns: turns[index]!,
      peak_bytes: ready[index]!.contestant.peakBytes(),
      device_mib: ready[index]!.deviceMib,
      version: ready[index]!.version,
    });
    const allowed = TOLERANCE * Math.max(...sides.map(({ tolerance = 1 }) => tolerance));
    const difference = differenceOf([answers[0]!, answers[1]!], cell.id, allowed);
    return { id: cell.id, sides: [result(0), result(1)], difference };
  } finally {
    for (const { contestant } of ready) await contestant.close();
  }
}

/** @throws Error when it is larger than allowed */
function differenceOf([ours, theirs]: readonly [Answer[], Answer[]], id: string, allowed: number): number {
  const losses = (answers: readonly Answer[]): number[] =>
    answers.flatMap((answer) => ("losses" in answer ? answer.losses : [])).slice(0, 3);
  const difference =
    "losses" in ours[0]!
      ? worst(losses(ours), losses(theirs))
      : logProbDifference(ours[0] as SampleAnswer, theirs[0] as SampleAnswer);
  if (!(difference <= allowed)) throw new Error(`${id}: the two sides differ by ${difference}`);
  return difference;
}

const worst = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

/**
 * Of greedy continuations, as far as both show log-probs, up to the first token at which two differ, that one's included: there both sides took a
 * token that is as likely as the other's, or one of them is wrong.
 */
export function logProbDifference(a: SampleAnswer, b: SampleAnswer): number {
  const differences = a.ids!.map((ids, row) => {
    const fork = ids.findIndex((id, i) => id !== b.ids![row]![i]);
    const shown = Math.min(a.log_probs![row]!.length, b.log_probs![row]!.length);
    const end = fork === -1 ? shown : Math.min(fork + 1, shown);
    return worst(a.log_probs![row]!.slice(0, end), b.log_probs![row]!.slice(0, end));
  });
  return Math.max(...differences);
}

/** Share of the CPUs that other programs used, the median over all turns. */
export const othersShare = ({ sides }: CellResult): number =>
  median(sides.flatMap(({ turns }) => turns.map(({ others }) => others)));
