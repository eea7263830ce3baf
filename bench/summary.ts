/** From measured turns to a table. */
import type { Cell } from "./cells.js";
import type { Limits } from "./contestant.js";
import { type CellResult, othersShare, type SideResult } from "./duel.js";
import { POLICIES, sampleBytes, sampleOperations, trainOperations } from "./policies.js";
import { inWords } from "./sides.js";

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Ours over theirs, round by round, since turns of one round follow each other at once. */
export function ratioOf({ sides: [ours, theirs] }: CellResult): {
  median: number;
  least: number;
  most: number;
} {
  const quotients = ours.turns.map((turn, round) => turn.tokens_per_s / theirs.turns[round]!.tokens_per_s);
  return { median: median(quotients), least: Math.min(...quotients), most: Math.max(...quotients) };
}

/** Where others took more of the CPUs than this while it was measured, a cell is marked. */
const NOT_IDLE = 0.05;

const whole = (value: number): string => Math.round(value).toLocaleString("en");

const speedOf = ({ turns }: SideResult): number => median(turns.map((turn) => turn.tokens_per_s));

function describeWork({ work }: Cell): readonly [string, string] {
  if (work.kind === "train") return [String(work.rows), String(work.length)];
  return [String(work.prompts * work.samples), String(work.promptLength + work.newTokens)];
}

const operations = ({ policy, work }: Cell): number =>
  work.kind === "train"
    ? trainOperations(POLICIES[policy]!, work)
    : sampleOperations(POLICIES[policy]!, work);

/** One table as Markdown. Cells without a result say why. */
export function tableOf(
  cells: readonly Cell[],
  results: Readonly<Record<string, CellResult>>,
  leftOut: Readonly<Record<string, string>>,
): string[] {
  const found = cells.flatMap((cell) => results[cell.id] ?? []);
  const [ours, theirs] = found[0]?.sides.map(({ side }) => side) ?? ["Retort", "the other"];
  const isTraining = cells[0]?.work.kind === "train";
  const rows = cells.map((cell) => {
    const result = results[cell.id];
    const work = describeWork(cell);
    if (result === undefined)
      return [cell.policy, ...work, leftOut[cell.id] ?? "not measured", "", "", "", ""];
    const { median: middle, least, most } = ratioOf(result);
    const speeds = result.sides.map((side) => `${whole(speedOf(side))} (${inWords(side.setting)})`);
    const gflops = result.sides.map((side) => whole((speedOf(side) * operations(cell)) / 1e9)).join(" / ");
    const memory = result.sides
      .map((side) => whole(side.device_mib ?? side.peak_bytes / 2 ** 20))
      .join(" / ");
    const mark = othersShare(result) > NOT_IDLE ? " *" : "";
    const ratio = `${middle.toFixed(2)} (${least.toFixed(2)}-${most.toFixed(2)})${mark}`;
    return [cell.policy, ...work, ...speeds, ratio, gflops, memory];
  });
  const head = [
    "policy",
    isTraining ? "rows" : "sequences",
    "length",
    `${ours} tokens/s`,
    `${theirs} tokens/s`,
    "ratio",
    "GFLOP/s",
    found[0]?.sides.some(({ device_mib }) => device_mib !== null) ? "GPU MiB" : "peak MiB",
  ];
  const busy = found.filter((result) => othersShare(result) > NOT_IDLE);
  return [
    ...aligned([head, head.map(() => "---"), ...rows]),
    ...(busy.length === 0
      ? []
      : [
          `\\* not idle: others used ${shares(busy)} of the CPUs; the ratio is the better for it than the rates.`,
        ]),
  ];
}

/** How near each side comes to what the card can do: arithmetic; in sampling the memory's speed too. */
export function shareOfLimits(
  cells: readonly Cell[],
  results: Readonly<Record<string, CellResult>>,
  limits: Limits,
): string[] {
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  return cells.flatMap((cell) => {
    const { work, id } = cell;
    const sides = results[id]?.sides ?? [];
    if (sides.length === 0) return [];
    const told = sides.map((side) => {
      const arithmetic = (speedOf(side) * operations(cell)) / (limits.tflops * 1e12);
      if (work.kind === "train") return `${side.side} ${percent(arithmetic)}`;
      const memory = (speedOf(side) * sampleBytes(POLICIES[cell.policy]!, work)) / (limits.gb_per_s * 1e9);
      return `${side.side} ${percent(arithmetic)}, of its memory's ${percent(memory)}`;
    });
    return [`- ${id}: of the card's arithmetic ${told.join("; ")}`];
  });
}

function shares(busy: readonly CellResult[]): string {
  const all = busy.map((result) => Math.round(100 * othersShare(result)));
  return `${Math.min(...all)} to ${Math.max(...all)} %`;
}

/** Cells of a Markdown table, padded so that it reads as text too. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`);
}
