import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Evaluated, evaluateSolutions } from "../../coordinator/evaluate-solutions.js";
import { type EvaluationReport, evaluationReport, shortened } from "../../coordinator/evaluation-report.js";
import type { Solution } from "../../coordinator/solutions.js";
import { checkReportName, writeReport } from "../../coordinator/write-report.js";
import { type Status, Task, type Verdict } from "../../core/index.js";

const root = mkdtempSync(join(tmpdir(), "evaluation-page-"));
let browser: Browser;
beforeAll(async () => {
  browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"],
  });
});
afterAll(async () => {
  await browser?.close();
  rmSync(root, { recursive: true });
});

const HOSTILE = `</script></pre></details><img src="http://127.0.0.1:9/x" onerror="document.title='broken'"><script>document.title='broken'</script>\u202e\u0007`;

const taskOf = (id: string): Task =>
  Task.parse({
    id,
    prompt: `Prompt of ${id} ${HOSTILE}`,
    tests: [
      { input: "1\n", output: "1\n" },
      { input: `2 ${HOSTILE}\n`, output: `two ${HOSTILE}\n`, visible: false },
    ],
  });

/** Verdicts whose texts are hostile, as a real judge's may be: a program's text names its status. */
function verdict({ program }: { program: string | null }): Promise<Verdict> {
  const status = (program ?? "no_program").split(" ")[0] as Status;
  const outcome = { time_ms: 1, memory_kb: 1, signal: null, stdout: "1\n", stderr: "" };
  return Promise.resolve({
    status,
    reward: status === "accepted" ? 1 : status === "infrastructure" ? null : 0,
    passed: 1,
    total: 2,
    feedback: status === "accepted" ? "" : `Feedback ${HOSTILE}`,
    tests: [
      { ...outcome, status: "accepted", exit_code: 0 },
      { ...outcome, status, exit_code: 7, stdout: `out ${HOSTILE}`, stderr: `err ${HOSTILE}` },
    ],
    comparator: "tokens",
    cached: false,
    ...(status === "infrastructure" ? { reason: `no sandbox ${HOSTILE}` } : {}),
  });
}

async function evaluated(name: string, solutions: readonly Solution[]): Promise<[Evaluated, string]> {
  const out = join(root, `${name}.jsonl`);
  const pool = { verify: verdict, isolation: { sandbox: "none" } as never };
  return [await evaluateSolutions({ solutions, out, pool, judging: "" }), out];
}

const solution = (id: string, sample: number, program: string | null): Solution => ({
  task: taskOf(id),
  language: "bash",
  sample,
  program,
});

async function smallReport(): Promise<EvaluationReport> {
  const [found, out] = await evaluated("small", [
    solution("a/accepted", 0, "accepted"),
    solution("a/accepted", 1, "accepted"),
    solution(`b/${HOSTILE}`, 0, `wrong_answer ${HOSTILE}`),
    solution(`b/${HOSTILE}`, 1, "runtime_error"),
    solution("c/none", 0, null),
    solution("d/ours", 0, "infrastructure"),
  ]);
  return evaluationReport(found, out, `Report ${HOSTILE}`);
}

/** Opens a page from its file; whatever it complains of or asks the network for is gathered. */
async function opened(
  file: string,
  scheme: "light" | "dark" = "light",
): Promise<{ page: Page; events: string[] }> {
  const page = await browser.newPage({ colorScheme: scheme });
  const events: string[] = [];
  page.on("console", (message) => events.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => events.push(`error: ${error.message}`));
  page.on("request", (request) => {
    if (request.url() !== pathToFileURL(file).href) events.push(`request: ${request.url()}`);
  });
  page.on("dialog", (dialog) => {
    events.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.goto(pathToFileURL(file).href);
  return { page, events };
}

test("the page opens from a file without a request or a complaint, in light and in dark, and hostile text stays text", async () => {
  const file = join(root, "small.html");
  await writeReport(file, await smallReport());
  for (const scheme of ["light", "dark"] as const) {
    const { page, events } = await opened(file, scheme);
    for (const summary of await page.locator("summary").all()) await summary.click();
    const shown = HOSTILE.replace("\u202e\u0007", "[U+202E]\u2407");
    expect(await page.title()).toBe(`Report ${shown}`);
    expect(await page.locator("h1").textContent()).toBe(`Report ${shown}`);
    expect(await page.locator("img").count()).toBe(0);
    expect(await page.locator("script").count()).toBe(1);
    const program = page
      .locator("details", { hasText: "wrong_answer" })
      .locator("section", { hasText: "Program" });
    expect(await program.locator("pre").first().innerText()).toBe(`wrong_answer ${shown}`);
    expect(events).toEqual([]);
    await page.close();
  }
});

test("a failed program is shown with its task, feedback and first failed test, and what was not judged with the reason", async () => {
  const file = join(root, "failed.html");
  await writeReport(file, await smallReport());
  const { page } = await opened(file);
  const details = page.locator("details");
  expect(await details.count()).toBe(4);
  const headings = await details.first().locator("h3").allTextContents();
  expect(headings).toEqual([
    "Task",
    "Program",
    "Feedback",
    "First failed test: number 2, hidden from feedback; wrong_answer, exit code 7",
    "Input",
    "Expected",
    "Printed",
    "Standard error",
  ]);
  expect(await details.nth(2).textContent()).toContain("There is none.");
  expect(await details.nth(3).textContent()).toContain("Why it could not be judged");
  expect(await page.locator("main").textContent()).toContain("1 tasks have no verdict at all");
  await page.close();
});

test("the filter leaves what holds its words and has the status", async () => {
  const file = join(root, "filter.html");
  await writeReport(file, await smallReport());
  const { page } = await opened(file);
  const shown = (selector: string): Promise<number> => page.locator(`${selector}:not([hidden])`).count();
  const rows = "tr[data-statuses]";
  expect([await shown(rows), await shown("details")]).toEqual([4, 4]);
  await page.fill("#words", "ACCEPTED a/");
  expect([await shown(rows), await page.locator(`${rows}:not([hidden]) td.id`).textContent()]).toEqual([
    1,
    "a/accepted",
  ]);
  await page.fill("#words", "");
  await page.selectOption("#status", "runtime_error");
  expect([await shown(rows), await shown("details")]).toEqual([1, 1]);
  expect(await page.locator("#counted").textContent()).toBe("2 of 8 lines");
  await page.selectOption("#status", "");
  expect(await shown("details")).toBe(4);
  await page.close();
});

test("10,000 rows with long programs make a page under 10 MB that says what it leaves out, and opens", async () => {
  const long = `wrong_answer ${"<é".repeat(20_000)}`;
  const solutions = Array.from({ length: 10_000 }, (_, i) =>
    solution(`task/${i >> 1}`, i & 1, i % 5 ? long : "accepted"),
  );
  const [found, out] = await evaluated("large", solutions);
  const report = evaluationReport(found, out, "large");
  const file = join(root, "large.html");
  await writeReport(file, report);
  expect(statSync(file).size).toBeLessThan(10_000_000);
  expect(report.failures.length).toBeGreaterThan(100);
  expect(new Set(report.failures.map(({ task_id }) => task_id)).size).toBe(report.failures.length);
  const { page, events } = await opened(file);
  const text = (await page.locator("main").textContent())!;
  expect(text).toContain(`${report.failures.length} of 8000 are shown here`);
  expect([await page.locator("tr[data-statuses]").count(), events]).toEqual([5000, []]);
  await page.fill("#words", "task/4999");
  expect(await page.locator("tr[data-statuses]:not([hidden])").count()).toBe(1);
  await page.close();
});

test("the same report as JSON", async () => {
  const file = join(root, "report.json");
  const report = await smallReport();
  await writeReport(file, report);
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(JSON.parse(JSON.stringify(report)));
  expect(report.tasks[0]).toEqual({
    task_id: "a/accepted",
    language: "bash",
    judged: 2,
    passed: 2,
    statuses: { accepted: 2 },
  });
  expect(report.failures.map(({ status, program }) => [status, program?.split(" ")[0] ?? null])).toEqual([
    ["wrong_answer", "wrong_answer"],
    ["runtime_error", "runtime_error"],
    ["no_program", null],
    ["infrastructure", "infrastructure"],
  ]);
});

test("a long text keeps both ends and says how much is left out", () => {
  expect(shortened(`${"a".repeat(50)}${"b".repeat(50)}`, 20)).toBe(
    `${"a".repeat(10)}\n[... 80 characters left out ...]\n${"b".repeat(10)}`,
  );
  expect(() => checkReportName("report.txt")).toThrow("need a file name that ends in .html or .json");
});
