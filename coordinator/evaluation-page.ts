/** The report of an evaluation as one page that needs nothing else: it opens from a file, in light and in dark. */
import { createHash } from "node:crypto";
import { STATUSES, type Status } from "../core/index.js";
import { escaped } from "./escaped-text.js";
import { PAGE_SCRIPT, PAGE_STYLE } from "./evaluation-page-parts.js";
import { type EvaluationReport, type Failure, shortened, type TaskLine } from "./evaluation-report.js";
import type { Numbers } from "./evaluation-summary.js";
import { ratesOf } from "./evaluation-table.js";
import type { Interval } from "./intervals.js";
import { duration, rate } from "./progress-line.js";

const hash = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`;
const number = (text: string | number): string => `<td class="number">${text}</td>`;
const WIDTH = 160;
/** Of a task's name, so that thousands of them fit. */
const MOST_ID_CHARS = 120;

/** A proportion and its interval on a rail from 0 to 1. */
function intervalSvg(value: number, [low, high]: Interval): string {
  const x = (share: number): string => (4 + share * (WIDTH - 8)).toFixed(1);
  return (
    `<svg width="${WIDTH}" height="14" role="img" aria-label="${percent(low)} to ${percent(high)}">` +
    `<line class="rail" x1="4" x2="${WIDTH - 4}" y1="7" y2="7"/>` +
    `<line class="range" x1="${x(low)}" x2="${x(high)}" y1="7" y2="7" stroke-width="3"/>` +
    `<circle class="dot" cx="${x(value)}" cy="7" r="4"/></svg>`
  );
}

const barSvg = (share: number, width: number, isBad: boolean): string =>
  `<svg width="${width}" height="8" aria-hidden="true"><rect class="track" width="${width}" height="8" rx="2"/>` +
  `<rect class="bar${isBad ? " bad" : ""}" width="${(share * width).toFixed(1)}" height="8" rx="2"/></svg>`;

const table = (head: readonly string[], rows: readonly string[]): string =>
  `<table><thead><tr>${head.join("")}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
const th = (text: string, isNumber = false): string => `<th${isNumber ? ' class="number"' : ""}>${text}</th>`;

function ratesTable(numbers: Numbers): string {
  const rows = ratesOf(numbers).map(
    ({ name, value, interval }) =>
      `<tr><td>${name}</td>${number(percent(value))}${number(interval.map(percent).join(" &ndash; "))}<td>${intervalSvg(value, interval)}</td></tr>`,
  );
  if (rows.length === 0) return `<p class="soft">No program was judged.</p>`;
  return table([th("rate"), th("mean", true), th("95% interval", true), th("")], rows);
}

function statusTable(numbers: Numbers): string {
  const rows = STATUSES.filter((status) => numbers.statuses[status] > 0).map((status) => {
    const count = numbers.statuses[status];
    const share = count / numbers.samples;
    return `<tr><td>${status}</td>${number(count)}${number(percent(share))}<td>${barSvg(share, 100, status !== "accepted")}</td></tr>`;
  });
  return table([th("status"), th("programs", true), th("share", true), th("")], rows);
}

function groupTable(name: string, groups: Readonly<Record<string, Numbers>>): string {
  const rows = Object.entries(groups).map(([group, numbers]) => {
    const interval = numbers.intervals["pass@1"];
    const passed =
      interval === undefined
        ? `${number("&ndash;")}<td></td>`
        : `${number(percent(numbers["pass@1"]!))}<td>${intervalSvg(numbers["pass@1"]!, interval)}</td>`;
    return `<tr><td>${escaped(group)}</td>${number(numbers.tasks)}${number(numbers.samples)}${number(numbers.infrastructure)}${passed}</tr>`;
  });
  const head = [
    th(name),
    th("tasks", true),
    th("programs", true),
    th("not judged", true),
    th("pass@1", true),
    th(""),
  ];
  return table(head, rows);
}

const mix = (statuses: TaskLine["statuses"]): string =>
  STATUSES.filter((status) => (statuses[status] ?? 0) > 0)
    .map((status) => (statuses[status] === 1 ? status : `${status} ${statuses[status]}`))
    .join(", ");

function taskRow({ task_id, language, judged, passed, statuses }: TaskLine): string {
  const share = judged === 0 ? 0 : passed / judged;
  return (
    `<tr data-statuses="${Object.keys(statuses).join(" ")}"><td class="id">${escaped(shortened(task_id, MOST_ID_CHARS))}</td><td>${escaped(language)}</td>` +
    `${number(`${passed} of ${judged}`)}<td>${barSvg(share, 80, false)}</td><td class="soft">${mix(statuses)}</td></tr>`
  );
}

const block = (title: string, text: string): string =>
  `<section><h3>${title}</h3><pre>${text === "" ? '<span class="soft">(nothing)</span>' : escaped(text)}</pre></section>`;

function testBlocks({ test }: Failure): string {
  if (test === null) return "";
  const ended =
    test.signal === null ? `exit code ${test.exit_code ?? "unknown"}` : `signal ${escaped(test.signal)}`;
  const hidden = test.is_hidden ? ", hidden from feedback" : "";
  const stderr = test.stderr === "" ? "" : block("Standard error", test.stderr);
  return (
    `<h3>First failed test: number ${test.number}${hidden}; ${test.status}, ${ended}</h3>` +
    `<div class="pair">${block("Input", test.input)}${block("Expected", test.expected)}${block("Printed", test.stdout)}${stderr}</div>`
  );
}

function failureDetails(failure: Failure): string {
  const { task_id, language, sample, status, prompt, program, feedback, reason } = failure;
  return (
    `<details data-statuses="${status}"><summary><span class="status">${status}</span> &middot; ${escaped(shortened(task_id, MOST_ID_CHARS))} ` +
    `<span class="soft">${escaped(language)}, sample ${sample}</span></summary><div>` +
    `${reason === null ? "" : block("Why it could not be judged", reason)}${block("Task", prompt)}` +
    `${program === null ? '<h3>Program</h3><p class="soft">There is none.</p>' : block("Program", program)}` +
    `${feedback === "" ? "" : block("Feedback", feedback)}${testBlocks(failure)}</div></details>`
  );
}

/** "300 of 4210 shown", where not all are. */
const bound = (shown: number, total: number, more: string): string =>
  shown === total ? "" : `<p class="soft">${shown} of ${total} are shown here: ${more}</p>`;

function head({ summary, title }: EvaluationReport): string {
  const speed = summary.programs_per_s === null ? "" : ` &middot; ${rate(summary.programs_per_s)} programs/s`;
  const facts = `${summary.tasks} tasks &middot; ${summary.samples} programs &middot; compared by ${Object.keys(summary.comparators).map(escaped).join(", ")}`;
  const infrastructure =
    summary.infrastructure === 0
      ? ""
      : `<p>${summary.infrastructure} programs could not be judged, by no fault of theirs. They are in no rate. ${summary.unjudged_tasks.length} tasks have no verdict at all.</p>`;
  return `<h1>${escaped(title)}</h1><p class="soft">${facts} &middot; ${duration(summary.seconds)}${speed}</p>${infrastructure}`;
}

function tools(statuses: readonly Status[]): string {
  const options = statuses.map((status) => `<option>${status}</option>`).join("");
  return (
    `<div class="tools"><input id="words" type="search" placeholder="Filter tasks and programs" aria-label="Filter tasks and programs">` +
    `<select id="status" aria-label="Status"><option value="">every status</option>${options}</select><span id="counted" class="soft"></span></div>`
  );
}

/** The whole page. */
export function evaluationPage(report: EvaluationReport): string {
  const { summary, tasks, failures } = report;
  const present = STATUSES.filter((status) => summary.statuses[status] > 0);
  // Nothing is fetched and no other script runs, even if a program's text found a way into the markup.
  const policy = `default-src 'none'; style-src ${hash(PAGE_STYLE)}; script-src ${hash(PAGE_SCRIPT)}; base-uri 'none'; form-action 'none'`;
  const taskTable = table(
    [th("task"), th("language"), th("passed", true), th(""), th("statuses")],
    tasks.map(taskRow),
  );
  const failed =
    failures.length === 0
      ? ""
      : `<h2>Failed programs</h2>${bound(failures.length, report.failures_total, "first one of each task, as far as there is room. The result file has all.")}${failures.map(failureDetails).join("\n")}`;
  return (
    `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">` +
    `<meta http-equiv="Content-Security-Policy" content="${policy}"><title>${escaped(report.title)}</title><style>${PAGE_STYLE}</style></head>` +
    `<body><main>${head(report)}<div class="columns"><section><h2>Rates</h2>${ratesTable(summary)}</section>` +
    `<section><h2>Statuses</h2>${statusTable(summary)}</section></div>` +
    `<h2>Languages</h2>${groupTable("language", summary.languages)}<h2>Comparators</h2>${groupTable("comparator", summary.comparators)}` +
    `${tools(present)}<h2>Tasks</h2>${bound(tasks.length, report.tasks_total, "the first ones. The result file has all.")}${taskTable}${failed}` +
    `</main><script>${PAGE_SCRIPT}</script></body></html>\n`
  );
}
