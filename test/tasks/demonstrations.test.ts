import { createHash } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ExampleKind,
  prepareFamily,
  type WarmStartExample,
  warmStartExamples,
} from "../../tasks/index.js";
import { demonstrated } from "../../tasks/lua-words/splits.js";
import { teacherPrompt } from "../../trainer/index.js";
import { type LuaSandbox, openLuaSandbox } from "./sandbox.js";

const [COUNT, PLAIN_FIRST] = [4000, 400];
let sandbox: LuaSandbox;
let corpus: WarmStartExample[];
const make = (count: number, extra: object = {}): Promise<WarmStartExample[]> =>
  warmStartExamples({
    count,
    plainFirst: PLAIN_FIRST,
    runLua: sandbox.runLua,
    feedback: sandbox.feedback,
    teacherPrompt,
    ...extra,
  });
beforeAll(async () => {
  sandbox = await openLuaSandbox();
  corpus = await make(COUNT);
});
afterAll(() => sandbox.pool.close());

const mixed = (): WarmStartExample[] => corpus.slice(PLAIN_FIRST);
const of = (kind: ExampleKind): WarmStartExample[] => mixed().filter((each) => each.kind === kind);
const firstLine = (text: string): string => text.split("\n")[0]!;

test("same request, same bytes: the corpus is pinned", () => {
  expect(createHash("sha256").update(JSON.stringify(corpus)).digest("hex")).toBe(
    "5efb315d87809ae56558ca097e20f4229cfcea0e780df934f0584e4c43a915ef",
  );
});

test("a shorter corpus is the beginning of a longer one, and another seed draws another", async () => {
  expect(await make(600)).toEqual(corpus.slice(0, 600));
  expect(await make(600, { seed: 1 })).not.toEqual(corpus.slice(0, 600));
});

test("it begins with bare instructions, then mixes 15% plain, 45% with a solution, 40% with feedback", () => {
  expect(new Set(corpus.slice(0, PLAIN_FIRST).map(({ kind }) => kind))).toEqual(new Set(["plain"]));
  const share = (kind: ExampleKind): number => of(kind).length / (COUNT - PLAIN_FIRST);
  // Standard error under 0.9 points; wrong programs that pass by chance move 5 points from feedback to plain.
  expect(share("solution")).toBeCloseTo(0.45, 1);
  expect(share("feedback")).toBeGreaterThan(0.3);
  expect(share("feedback")).toBeLessThan(0.41);
  expect(share("plain") + share("solution") + share("feedback")).toBeCloseTo(1, 9);
});

test("only demonstrated instructions are shown, none that any seed trains on or measures by", async () => {
  const allowed = new Set(demonstrated().map(({ text }) => text));
  const shown = new Set(corpus.map(({ prompt }) => firstLine(prompt)));
  expect([...shown].filter((text) => !allowed.has(text))).toEqual([]);
  const { rl, heldout, probe, tuning } = await prepareFamily({ seed: 3, runLua: sandbox.runLua });
  const tasks = [...rl, ...heldout, ...probe, ...tuning];
  expect(tasks.filter(({ prompt }) => shown.has(prompt))).toEqual([]);
});

test("plain demonstrations use the senses of a vague word evenly", () => {
  const styles = ['"= "', '"> "', '"."'];
  const reports = corpus.filter(({ kind, prompt }) => kind === "plain" && prompt.includes(" Report the "));
  const counts = styles.map((style) => reports.filter(({ response }) => response.includes(style)).length);
  expect(reports.length).toBeGreaterThan(150);
  for (const count of counts) expect(Math.abs(count / reports.length - 1 / 3)).toBeLessThan(0.12);
});

test("a solution is laid out as the trainer shows it, and the answer is a copy of it", () => {
  const { prompt, response } = of("solution")[0]!;
  expect(prompt).toBe(
    `${firstLine(prompt)}\nCorrect solution:\n\n${response}\n\nCorrectly solve the original question.`,
  );
});

test("nine in ten solutions cannot be told from the words alone", () => {
  const prints = of("solution").filter(({ prompt }) => /^Read (numbers|a word)\. Print /.test(prompt));
  const plainStyle = prints.filter(({ response }) =>
    /print\((r|s|table\.concat\([^"]*"[^"]*"\))\)$/.test(response),
  );
  // "Print" is clear, but 0.9 * 0.7 * 9/10 of the print styles are replaced by another.
  expect(plainStyle.length / prints.length).toBeCloseTo(1 - 0.9 * 0.7 * 0.9, 1);
});

test("feedback in the corpus is, character for character, what the verifier says of a program that fails so", async () => {
  const inputOf = (text: string): string => /\n\nInput\n(.*)\n\nOutput\n/.exec(text)![1]!;
  const sample = of("feedback")
    .filter(({ prompt }) => prompt.includes("Wrong Answer"))
    .slice(0, 15);
  for (const { prompt, response } of sample) {
    const outputs = [.../\n\nOutput\n(.*)\n\nExpected\n(.*)\n/.exec(prompt)!].slice(1);
    const [expected] = await sandbox.runLua([{ program: response, inputs: [`${inputOf(prompt)}\n`] }]);
    expect(expected![0]!.trim()).toBe(outputs[1]);
    const line = Number(/Test Case (\d)/.exec(prompt)![1]);
    const tests = Array.from({ length: line }, (_, i) => ({
      input: i === line - 1 ? `${inputOf(prompt)}\n` : "",
      output: i === line - 1 ? expected![0]! : "\n",
      visible: true,
    }));
    const failing = `local line = io.read()\nprint(line and ${JSON.stringify(outputs[0])} or "")`;
    const verdict = await sandbox.pool.verify({
      id: prompt,
      task: { id: "t", prompt: "", tests, comparator: "trailing", limits: {} },
      language: "lua",
      program: failing,
    });
    expect(prompt).toContain(`unsuccessful earlier attempt:\n\n${verdict.feedback}\n\n`);
  }
});

test("examples that show both are made when asked for", async () => {
  const both = (await make(500, { shares: { solution: 0, feedback: 0, both: 1 } })).slice(PLAIN_FIRST);
  expect(new Set(both.map(({ kind }) => kind))).toEqual(new Set(["both"]));
  expect(both[0]!.prompt).toContain(`\nCorrect solution:\n\n${both[0]!.response}\n`);
  expect(both.filter(({ prompt }) => prompt.includes("\nThe following is feedback")).length).toBeGreaterThan(
    80,
  );
});
