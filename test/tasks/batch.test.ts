import { afterAll, beforeAll, expect, test } from "vitest";
import { randomStream, type Task } from "../../core/index.js";
import { createBatchRunner } from "../../tasks/index.js";
import { outputOf } from "../../tasks/lua-words/evaluate.js";
import { drawInputs, TRAINING_LENGTHS } from "../../tasks/lua-words/inputs.js";
import { programOf } from "../../tasks/lua-words/programs.js";
import { drawOps } from "../../tasks/lua-words/senses.js";
import { demonstrated } from "../../tasks/lua-words/splits.js";
import { withBug, wrongProgram } from "../../tasks/lua-words/wrong-programs.js";
import { type LuaSandbox, openLuaSandbox } from "./sandbox.js";

let sandbox: LuaSandbox;
beforeAll(async () => {
  sandbox = await openLuaSandbox();
});
afterAll(() => sandbox.pool.close());

/** Tasks with wrong programs as the corpus has them, every third with a bug. */
function wrongPrograms(count: number): { task: Task; program: string }[] {
  const random = randomStream(5, "batch");
  return Array.from({ length: count }, (_, i) => {
    const instruction = random.pick(demonstrated());
    const ops = drawOps(instruction, random);
    const right = programOf(instruction.kind, ops);
    const inputs = drawInputs(instruction.kind, TRAINING_LENGTHS, random);
    const tests = inputs.map((input) => ({
      input,
      output: outputOf(instruction.kind, ops, input),
      visible: true,
    }));
    const task: Task = { id: `t${i}`, prompt: instruction.text, tests, comparator: "trailing", limits: {} };
    return { task, program: i % 3 === 0 ? withBug(right, random) : wrongProgram(instruction, ops, random) };
  });
}

test("the batch runner agrees with one sandboxed process a test, verdicts and feedback text, on 220 wrong programs", async () => {
  const cases = wrongPrograms(220);
  const batch = await createBatchRunner(sandbox.runLua)(
    cases.map(({ task, program }) => ({ program, inputs: task.tests.map(({ input }) => input) })),
  );
  const verdicts = await Promise.all(
    cases.map(({ task, program }) => sandbox.pool.verify({ id: task.id, task, language: "lua", program })),
  );
  const judged = batch.map((outcomes, i) =>
    outcomes.map((outcome, test) =>
      outcome.status === "accepted" &&
      outcome.stdout.trimEnd() !== cases[i]!.task.tests[test]!.output.trimEnd()
        ? { ...outcome, status: "wrong_answer" as const }
        : outcome,
    ),
  );
  expect(judged.map((outcomes) => outcomes.map(({ status }) => status))).toEqual(
    verdicts.map(({ tests }) => tests.map(({ status }) => status)),
  );
  expect(judged.map((outcomes, i) => sandbox.feedback(cases[i]!.task.tests, outcomes))).toEqual(
    verdicts.map(({ feedback }) => feedback),
  );
  expect(batch.map((outcomes) => outcomes.map(({ stdout }) => stdout))).toEqual(
    verdicts.map(({ tests }) => tests.map(({ stdout }) => stdout)),
  );
  const statuses = new Set(verdicts.map(({ status }) => status));
  expect(statuses).toContain("wrong_answer");
  expect(statuses).toContain("runtime_error");
});

test("runs do not see each other, and an endless one is stopped", async () => {
  const run = createBatchRunner(sandbox.runLua);
  const outcomes = await run([
    { program: "shared = 1\nprint(shared, _G.shared)", inputs: [""] },
    { program: "print(shared)", inputs: [""] },
    { program: "while true do end", inputs: [""] },
    { program: "print(io.read())\nprint(io.read())", inputs: ["one\ntwo\nthree\n", "four\n"] },
    { program: "io.write(1, 'a')\nerror('no')", inputs: [""] },
  ]);
  expect(outcomes.map((each) => each.map(({ status, stdout }) => [status, stdout]))).toEqual([
    [["accepted", "1\t1\n"]],
    [["accepted", "nil\n"]],
    [["time_limit", ""]],
    [
      ["accepted", "one\ntwo\n"],
      ["accepted", "four\nnil\n"],
    ],
    [["runtime_error", "1a"]],
  ]);
  expect(outcomes[4]![0]!.stderr).toMatch(/^lua5\.4: main\.lua:2: no\n/);
});

test("more runs than one process takes come back in order", async () => {
  const inputs = Array.from({ length: 7001 }, (_, i) => `${i}\n`);
  const [outcomes] = await createBatchRunner(sandbox.runLua)([{ program: "print(io.read())", inputs }]);
  expect(outcomes!.map(({ stdout }) => stdout)).toEqual(inputs);
});
