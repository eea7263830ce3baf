import { expect, test } from "vitest";
import { countsOf, numbersOf, summarise } from "../../coordinator/evaluation-summary.js";
import { summaryTable } from "../../coordinator/evaluation-table.js";
import { clusteredInterval, wilsonInterval } from "../../coordinator/intervals.js";
import { randomStream, type Status } from "../../core/index.js";

const row = (task_id: string, status: Status, language = "bash", comparator = "tokens") => ({
  task_id,
  language,
  status,
  comparator,
});
const now = { judged: 2, seconds: 4, isolation: { sandbox: "none" } };
const close = (interval: readonly number[]): unknown[] => interval.map((end) => expect.closeTo(end, 4));

// By hand for 8 of 10: centre (0.8 + 0.19207) / 1.38415 = 0.71674, half 1.96 sqrt(0.016 + 0.0096037) / 1.38415 = 0.22659.
// At 0 and 1 the formula shrinks to z2 / (n + z2) = 3.8415 / 23.8415 and n / (n + z2) = 3 / 6.8415.
test.each([
  [0.8, 10, [0.4902, 0.9433]],
  [0, 20, [0, 0.1611]],
  [1, 3, [0.4385, 1]],
  [0.5, 100, [0.4038, 0.5962]],
])("Wilson's interval of %d in %d", (proportion, n, want) => {
  expect(wilsonInterval(proportion, n)).toEqual(close(want));
});

test("with one program a task the interval is Wilson's own", () => {
  const values = [1, 1, 1, 1, 0].map((value, task) => ({ task: String(task), value, programs: 1 }));
  expect(clusteredInterval(values)).toEqual(close(wilsonInterval(0.8, 5)));
});

test("samples of one task count as one trial where they always agree, and as several where they differ", () => {
  const of = (values: readonly number[]) =>
    clusteredInterval(values.map((value, task) => ({ task: String(task), value, programs: 4 })));
  expect(of([1, 1, 0, 0])).toEqual(close(wilsonInterval(0.5, 4)));
  // Deviations 0.25, -0.25, 0.25, -0.25: variance 4/16 / 16 = 1/64, so 0.25 / (1/64) = 16 trials.
  expect(of([0.75, 0.25, 0.75, 0.25])).toEqual(close(wilsonInterval(0.5, 16)));
  expect(of([0.5, 0.5, 0.5, 0.5])).toEqual(close(wilsonInterval(0.5, 16))); // never more trials than programs
  expect(of([1, 1, 1, 1])).toEqual(close(wilsonInterval(1, 4)));
});

test("languages of one task are one trial too", () => {
  const values = ["a", "a", "b", "b"].map((task) => ({ task, value: task === "a" ? 1 : 0, programs: 1 }));
  expect(clusteredInterval(values)).toEqual(close(wilsonInterval(0.5, 2)));
});

test("the interval holds the truth in about 95 of 100 evaluations, where one that takes samples for independent does not", () => {
  const random = randomStream(1, "coverage");
  let [held, naively] = [0, 0];
  const [evaluations, tasks, samples] = [600, 40, 8];
  for (let evaluation = 0; evaluation < evaluations; evaluation++) {
    // Half of the tasks are nearly always solved, half nearly never: the truth is 0.5.
    const values = Array.from({ length: tasks }, (_, task) => {
      const chance = random.next() < 0.5 ? 0.95 : 0.05;
      const passed = Array.from({ length: samples }, () => random.next() < chance).filter(Boolean).length;
      return { task: String(task), value: passed / samples, programs: samples };
    });
    const mean = values.reduce((sum, { value }) => sum + value, 0) / tasks;
    const [low, high] = clusteredInterval(values);
    const [naiveLow, naiveHigh] = wilsonInterval(mean, tasks * samples);
    if (low <= 0.5 && 0.5 <= high) held++;
    if (naiveLow <= 0.5 && 0.5 <= naiveHigh) naively++;
  }
  expect(held / evaluations).toBeGreaterThan(0.92);
  expect(held / evaluations).toBeLessThan(0.98);
  expect(naively / evaluations).toBeLessThan(0.65);
});

test("infrastructure is counted apart: in no rate, and a task of nothing else is named", () => {
  const rows = [row("a", "accepted"), row("a", "infrastructure"), row("b", "infrastructure")];
  const summary = summarise(rows, now);
  expect(summary).toMatchObject({
    tasks: 2,
    samples: 3,
    "pass@1": 1,
    infrastructure: 2,
    unjudged_tasks: ["b"],
    programs_per_s: 0.5,
  });
  expect(summary.intervals["pass@1"]).toEqual(close(wilsonInterval(1, 1)));
  expect(summaryTable(summary)).toContain("1 tasks have no verdict at all and are in no rate: b");
});

test("without a judged program there is no rate", () => {
  const { intervals, ...numbers } = numbersOf([row("a", "infrastructure")]);
  expect(intervals).toEqual({});
  expect(Object.keys(numbers)).toEqual(["tasks", "samples", "statuses", "infrastructure"]);
});

test("rates are means over pairs of task and language; each language and comparator has its own", () => {
  const rows = [
    row("a", "accepted", "lua"),
    row("a", "wrong_answer", "lua"),
    row("a", "accepted", "c"),
    row("b", "runtime_error", "c", "float"),
  ];
  const summary = summarise(rows, now, [1, 2]);
  expect(countsOf(rows)).toEqual([
    { task: "a", language: "lua", judged: 2, passed: 1 },
    { task: "a", language: "c", judged: 1, passed: 1 },
    { task: "b", language: "c", judged: 1, passed: 0 },
  ]);
  expect(summary["pass@1"]).toBeCloseTo(0.5);
  expect(Object.keys(summary.intervals)).toEqual(["pass@1", "pass^1"]); // task a has one program in C
  expect(summary.languages).toMatchObject({
    lua: { tasks: 1, samples: 2, "pass@1": 0.5, "pass@2": 1, "pass^2": 0 },
    c: { tasks: 2, samples: 2, "pass@1": 0.5, statuses: { accepted: 1, runtime_error: 1 } },
  });
  expect(summary.comparators).toMatchObject({ tokens: { samples: 3 }, float: { samples: 1, "pass@1": 0 } });
  expect(summaryTable(summary)).toMatch(/language +samples +pass@1\nc +2 .*0\.5000.*\nlua +2 /);
});

test("a call that judged nothing has no speed", () => {
  const summary = summarise([row("a", "accepted")], { ...now, judged: 0 });
  expect([summary.programs_per_s, summaryTable(summary).includes("every row was there already")]).toEqual([
    null,
    true,
  ]);
});
