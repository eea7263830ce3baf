import type { Status } from "../core/index.js";

/** Pass rates of one task set: mean over samples at the run's temperature, and greedy. */
export interface HeldOut {
  readonly sampled: number | null;
  readonly greedy: number | null;
}

/** `report.json` of a run. Rates are fractions; seconds are wall time of the training loop, summed over resumes. */
export interface RunReport {
  readonly name: string;
  readonly objective: string;
  readonly seed: number;
  readonly heldout: { readonly before: HeldOut; readonly after: HeldOut } | null;
  /** The probe for forgetting: tasks the policy could already do. */
  readonly probe: { readonly before: HeldOut; readonly after: HeldOut } | null;
  readonly steps: number;
  readonly rollouts: number;
  readonly seconds: number;
  /** Tokens sampled per second of sampling. */
  readonly tokens_per_s: number;
  /** Programs judged per second of the loop. */
  readonly programs_per_s: number;
  /** Share of the loop's time spent waiting for the judge after the last completion. */
  readonly judge_wait_share: number;
  readonly statuses: Readonly<Partial<Record<Status, number>>>;
  readonly infrastructure: number;
  readonly checkpoint: string;
  readonly rollouts_folder: string;
}

const percent = (rate: number | null): string => (rate === null ? "-" : `${(100 * rate).toFixed(1)}%`);
const row = (name: string, ...cells: readonly string[]): string =>
  `  ${name.padEnd(28)}${cells.map((cell) => cell.padStart(10)).join("")}`;

/** The short table a run ends with. */
export function reportTable(report: RunReport, nextCommand: string): string {
  const lines = [
    `${report.name}: ${report.objective}, seed ${report.seed}, ${report.steps} steps, ${report.rollouts} rollouts`,
    "",
  ];
  const rates = (name: string, pair: RunReport["heldout"]): void => {
    if (pair === null) return;
    lines.push(row(`${name}, sampled`, percent(pair.before.sampled), percent(pair.after.sampled)));
    lines.push(row(`${name}, greedy`, percent(pair.before.greedy), percent(pair.after.greedy)));
  };
  if (report.heldout !== null) lines.push(row("pass@1", "before", "after"));
  rates("held-out", report.heldout);
  rates("already known", report.probe);
  const total = Object.values(report.statuses).reduce((a, b) => a + b, 0);
  const mix = Object.entries(report.statuses)
    .sort(([, a], [, b]) => b - a)
    .map(([status, count]) => `${status} ${percent(count / total)}`);
  lines.push("", `  verdicts       ${mix.join(", ") || "none"}`);
  lines.push(
    `  speed          ${report.tokens_per_s.toFixed(0)} tokens/s sampled, ${report.programs_per_s.toFixed(1)} programs/s judged`,
  );
  lines.push(
    `  time           ${report.seconds.toFixed(1)} s in the loop, ${percent(report.judge_wait_share)} of it waiting for the judge`,
  );
  if (report.infrastructure > 0)
    lines.push(`  infrastructure ${report.infrastructure} rollouts could not be judged and were left out`);
  lines.push(
    `  checkpoint     ${report.checkpoint}`,
    `  rollouts       ${report.rollouts_folder}`,
    `  next           ${nextCommand}`,
  );
  return lines.join("\n");
}

/** One point of the curve in `report.html`. */
export interface CurvePoint {
  readonly rollouts: number;
  readonly rate: number;
}

const WIDTH = 720;
const HEIGHT = 320;
const MARGIN = 48;

/** A line chart as SVG: pass rate (0 to 1) against rollouts, or against what `axis` names. */
export function curveSvg(
  curves: Readonly<Record<string, readonly CurvePoint[]>>,
  title: string,
  axis = "rollouts",
): string {
  const colours = ["#0b6e4f", "#b5480b", "#24478f", "#7a2e8e", "#555555"];
  const last = Math.max(
    1,
    ...Object.values(curves).flatMap((points) => points.map((point) => point.rollouts)),
  );
  const x = (rollouts: number): string => (MARGIN + (rollouts / last) * (WIDTH - 2 * MARGIN)).toFixed(1);
  const y = (rate: number): string => (HEIGHT - MARGIN - rate * (HEIGHT - 2 * MARGIN)).toFixed(1);
  const grid = [0, 0.2, 0.4, 0.6, 0.8, 1].map(
    (rate) =>
      `<line x1="${MARGIN}" x2="${WIDTH - MARGIN}" y1="${y(rate)}" y2="${y(rate)}" stroke="#ddd"/>` +
      `<text x="${MARGIN - 8}" y="${y(rate)}" text-anchor="end" dominant-baseline="middle">${rate.toFixed(1)}</text>`,
  );
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const rollouts = Math.round(part * last);
    return `<text x="${x(rollouts)}" y="${HEIGHT - MARGIN + 18}" text-anchor="middle">${rollouts}</text>`;
  });
  const lines = Object.entries(curves).map(([name, points], index) => {
    const colour = colours[index % colours.length]!;
    const path = points.map((point) => `${x(point.rollouts)},${y(point.rate)}`).join(" ");
    const label = `<text x="${WIDTH - MARGIN - 4}" y="${MARGIN + 150 + 18 * index}" text-anchor="end" fill="${colour}">${escapeHtml(name)}</text>`;
    return `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>${label}`;
  });
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="12">` +
    `<title>${escapeHtml(title)}</title>` +
    `<rect width="100%" height="100%" fill="white"/><text x="${MARGIN}" y="24" font-size="15">${escapeHtml(title)}</text>` +
    `${grid.join("")}${ticks.join("")}<text x="${WIDTH / 2}" y="${HEIGHT - 8}" text-anchor="middle">${escapeHtml(axis)}</text>${lines.join("")}</svg>`
  );
}

/** `report.html`: the table and the curves, one self-contained page. */
export function reportHtml(
  report: RunReport,
  curves: Readonly<Record<string, readonly CurvePoint[]>>,
  table: string,
): string {
  const title = `${report.name}: ${report.objective}`;
  return (
    `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escapeHtml(title)}</title>` +
    `<body style="font-family:sans-serif;max-width:760px;margin:2em auto"><h1>${escapeHtml(title)}</h1>` +
    `${curveSvg(curves, "pass@1")}<pre>${escapeHtml(table)}</pre></body></html>\n`
  );
}

const escapeHtml = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
