/** A plan for a person. */
import { bytesText, highest, type PlanItem, STAGES } from "./items.js";
import type { Plan } from "./plan.js";
import type { Speed } from "./speed.js";

const count = (n: number): string => {
  const units = ["", "k", "M", "B"];
  let [value, unit] = [n, 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit === 0 ? value : value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)}${units[unit]}`;
};

/** Smaller lines are told together. */
const LEAST_SHOWN = 2 ** 20;

function rowsOf(items: readonly PlanItem[], place: PlanItem["place"]): [string, ...string[]][] {
  const own = items.filter((item) => item.place === place);
  const cell = (item: PlanItem, stage: (typeof STAGES)[number]): string =>
    item.stages.includes(stage) ? bytesText(item.bytes) : "-";
  return own
    .filter(({ bytes }) => bytes >= LEAST_SHOWN)
    .map((item) => [item.what, ...STAGES.map((stage) => cell(item, stage))]);
}

function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((text, column) => (column === 0 ? text.padEnd(widths[0]!) : text.padStart(widths[column]!)))
      .join("  "),
  );
}

const samplerText = ({ provider, sampler }: Plan): string =>
  sampler === null || sampler === provider ? "" : `, samples on ${sampler}`;

/** The whole plan, in lines. */
export function planTable(plan: Plan): string {
  const { policy, peaks, disk, sequences } = plan;
  const lines = [
    `policy       ${policy.folder}`,
    `parameters   ${count(policy.parameters)}, of which ${count(policy.learned)} are learned`,
    `weights      ${bytesText(policy.storedBytes)} in ${policy.dtype}${policy.hasWeights ? "" : " by config.json; none are there"}`,
    `sequences    prompts up to ${sequences.prompt} tokens${sequences.areMeasured ? "" : " (rollout.max_prompt_tokens)"}, completions up to ${sequences.completion}`,
    `computes on  ${plan.provider}${samplerText(plan)}`,
    "",
  ];
  for (const place of ["device", "host"] as const) {
    const own = peaks[place];
    if (own === null) continue;
    const header = [place === "host" ? "host memory" : "device memory", ...STAGES];
    const total = ["in all", ...STAGES.map((stage) => bytesText(own[stage]))];
    lines.push(...aligned([header, ...rowsOf(plan.items, place), total]), "");
  }
  if (peaks.device !== null) lines.push(`largest buffer  ${bytesText(plan.largestBytes)}`, "");
  lines.push(...aligned([["disk", ""], ...disk.map(({ what, bytes }) => [what, bytesText(bytes)])]));
  lines.push("", ...timeLines(plan), planLine(plan));
  return `${lines.join("\n")}\n`;
}

const seconds = (value: number): string =>
  value >= 120 ? `${(value / 60).toFixed(0)} min` : `${value.toPrecision(value >= 10 ? 2 : 1)} s`;

function timeLines({ time }: Plan): string[] {
  if (time === null) return [];
  const { speed, samplerSpeed, sample, update, dominatedBy } = time;
  const source = speed.isMeasured ? "measured now" : "as told";
  const inWords = ({ flops, bandwidth }: Speed): string =>
    `${(flops / 1e9).toPrecision(3)} GFLOP/s, ${(bandwidth / 1e9).toPrecision(3)} GB/s`;
  const sampler = samplerSpeed === speed ? "" : `; sampling ${inWords(samplerSpeed)}`;
  const speeds = `${inWords(speed)}${sampler}, ${source}`;
  const sampling =
    sample === null
      ? "what the server takes to sample"
      : `about ${seconds(sample)} of sampling (every completion at full length)`;
  return [
    `a step takes ${sampling} and about ${seconds(update)} of updating (${speeds})`,
    `most of it is ${dominatedBy}`,
  ];
}

/** The plan in one line. */
export function planLine({ peaks, place, memoryBytes, fits }: Plan): string {
  const { stage, bytes } = highest(peaks[place] ?? peaks.host);
  const where = place === "host" ? "memory" : "device memory";
  const of = memoryBytes === null ? "" : ` of ${bytesText(memoryBytes)}`;
  const verdict = fits === false ? ": it does not fit" : "";
  return `plan: at most about ${bytesText(bytes)}${of} ${where} (${stage})${verdict}`;
}
