import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, expect, test } from "vitest";
import { duration, plainDue, progressDetail, progressHead, rate } from "../../coordinator/progress-line.js";
import { builtModule } from "../../core/index.js";

const folder = mkdtempSync(join(tmpdir(), "progress-"));
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  [0, "0:00"],
  [75, "1:15"],
  [59.6, "1:00"],
  [3700, "1:01:40"],
])("%d seconds are %s", (seconds, want) => {
  expect(duration(seconds)).toBe(want);
});

test.each([
  [7.25, "7.3"],
  [123.4, "123"],
  [5600, "5.6k"],
])("a rate of %d is %s", (perSecond, want) => {
  expect(rate(perSecond)).toBe(want);
});

test("the head tells stage, share, steps and time left", () => {
  const at = { stage: "training", done: 30, total: 120, elapsedMs: 10_000 };
  expect(progressHead(at)).toBe("training     [#####...............] 30/120  0:30 left");
  expect(progressHead({ ...at, done: 0 })).toBe("training     [....................] 0/120");
  expect(progressHead({ ...at, done: 120 })).toBe("training     [####################] 120/120  took 0:10");
});

test("the detail tells what is known, statuses in their fixed order", () => {
  expect(
    progressDetail({
      done: 1,
      reward: 0.25,
      passRate: 0.5,
      statuses: { wrong_answer: 3, accepted: 1, time_limit: 0 },
      tokensPerSecond: 5600,
      programsPerSecond: 80.04,
    }),
  ).toBe("reward 0.25  pass 50%  5.6k tokens/s  80.0 programs/s  accepted 1, wrong_answer 3");
  expect(progressDetail({ done: 1 })).toBe("");
});

test.each([
  { at: { done: 5, total: 100, printed: 5, sinceMs: 60_000 }, want: false, why: "nothing new" },
  { at: { done: 100, total: 100, printed: 99, sinceMs: 0 }, want: true, why: "the end" },
  { at: { done: 15, total: 100, printed: 5, sinceMs: 1000 }, want: true, why: "a tenth" },
  { at: { done: 15, total: 100, printed: 5, sinceMs: 200 }, want: false, why: "a tenth, but too soon" },
  { at: { done: 6, total: 100, printed: 5, sinceMs: 10_000 }, want: true, why: "ten seconds" },
])("a log gets another line or not: $why", ({ at, want }) => {
  expect(plainDue(at)).toBe(want);
});

const module = pathToFileURL(builtModule("coordinator/progress.js")).href;
const script = join(folder, "show.mjs");
writeFileSync(
  script,
  `
import { createProgress } from "${module}";
const progress = createProgress({ stream: process.stderr });
progress.note("first");
progress.stage("training", 4);
for (let done = 1; done <= 4; done++) {
  progress.update({ done, reward: done / 4 });
  if (done === 2) progress.note("saved");
  await new Promise((go) => setTimeout(go, 150));
}
progress.end();
progress.note("last");
`,
);

test("a pipe gets plain lines, without any control character", async () => {
  const child = spawn(process.execPath, [script], { stdio: ["ignore", "ignore", "pipe"] });
  let text = "";
  for await (const chunk of child.stderr) text += String(chunk);
  const lines = text.trimEnd().split("\n");
  expect(lines[0]).toBe("first");
  expect(lines[1]).toBe("training     [....................] 0/4");
  expect(lines.filter((line) => line === "saved")).toHaveLength(1);
  expect(lines.at(-2)).toMatch(/^training {5}\[#{20}\] 4\/4 {2}took 0:\d\d {2}reward 1\.00$/);
  expect(lines.at(-1)).toBe("last");
  expect(text).not.toMatch(/[\u001b\r]/);
});

test("a terminal gets lines that refresh, notes that stay, and its cursor back", () => {
  const env = { ...process.env };
  delete env.CI;
  const shown = spawnSync("script", ["-qec", `${process.execPath} ${script}`, "/dev/null"], {
    encoding: "utf8",
    env,
  });
  expect(shown.stdout).toContain("\u001b[?25l");
  expect(shown.stdout.lastIndexOf("\u001b[?25h")).toBeGreaterThan(shown.stdout.lastIndexOf("\u001b[?25l"));
  expect(shown.stdout).toContain("\u001b[1A"); // went back up: the block refreshed in place
  expect(shown.stdout).toContain("saved\r\n");
  expect(shown.stdout.trimEnd().endsWith("last")).toBe(true);
});
