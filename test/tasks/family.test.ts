import { createHash } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { randomStream, type Task } from "../../core/index.js";
import { createBatchRunner, type Family, prepareFamily } from "../../tasks/index.js";
import { outputOf } from "../../tasks/lua-words/evaluate.js";
import { drawInputs, TRAINING_LENGTHS } from "../../tasks/lua-words/inputs.js";
import { INSTRUCTIONS, KINDS } from "../../tasks/lua-words/instructions.js";
import { programOf } from "../../tasks/lua-words/programs.js";
import { alternatives, drawOps, drawSenses, opsOf } from "../../tasks/lua-words/senses.js";
import { survivorsOf } from "../../tasks/lua-words/separating-inputs.js";
import { demonstrated, drawSplits } from "../../tasks/lua-words/splits.js";
import { VAGUE_PHRASES } from "../../tasks/lua-words/vocabulary.js";
import { type LuaSandbox, openLuaSandbox } from "./sandbox.js";

let sandbox: LuaSandbox;
let family: Family;
beforeAll(async () => {
  sandbox = await openLuaSandbox();
  family = await prepareFamily({ seed: 0, runLua: sandbox.runLua });
});
afterAll(() => sandbox.pool.close());

const byId = new Map(INSTRUCTIONS.map((each) => [each.id, each]));

test("the family has 4248 instructions, each with a text and an id of its own", () => {
  expect(INSTRUCTIONS).toHaveLength(4248);
  expect(new Set(INSTRUCTIONS.map(({ text }) => text)).size).toBe(4248);
  expect(byId.size).toBe(4248);
  expect(KINDS.map((kind) => INSTRUCTIONS.filter((each) => each.kind === kind).length)).toEqual([
    2304, 1620, 324,
  ]);
});

test("instructions read as the sentences they stand for", () => {
  expect(byId.get("reduce/report-score-big-doubled")?.text).toBe(
    "Read numbers. Report the score of the big numbers doubled.",
  );
  expect(byId.get("list/print-with-dashes")?.text).toBe("Read numbers. Print the numbers with dashes.");
  expect(byId.get("string/show-in-upper-case-tagged")?.text).toBe(
    "Read a word. Show it in upper case and tagged.",
  );
});

test("programs are written in the canonical style", () => {
  const program = (id: string, senses: Record<string, number>): string => {
    const instruction = byId.get(id)!;
    return programOf(instruction.kind, opsOf(instruction, senses));
  };
  expect(program("reduce/report-score-big-bumped", { Report: 2, score: 1, big: 1, bumped: 2 })).toBe(
    'local r = 1\nfor x in io.lines(nil, "n") do\n  if x > 4 then\n    r = r * (x + 3)\n  end\nend\nprint(r .. ".")',
  );
  expect(program("list/show-squared-neatly", { Show: 1, neatly: 2 })).toBe(
    'local t = {}\nfor x in io.lines(nil, "n") do\n  t[#t + 1] = x * x\nend\nprint("<" .. table.concat(t, " + ") .. ">")',
  );
  expect(program("string/print-trimmed-tagged", { trimmed: 2, tagged: 1 })).toBe(
    'local s = io.read()\ns = s:sub(2, -2)\ns = "z" .. s\nprint(s)',
  );
});

test.each([0, 1, 2, 3, 4, 5, 77, 4294967295])(
  "seed %i: all parts are disjoint and of the right size",
  (seed) => {
    const { rl, heldout, probe, tuning } = drawSplits(seed);
    const parts = [demonstrated(), rl, heldout, probe, tuning];
    expect(parts.map((part) => part.length)).toEqual([980, 255, 150, 49, 150]);
    expect(new Set(parts.flat().map(({ text }) => text)).size).toBe(980 + 255 + 150 + 49 + 150);
    const count = (part: typeof rl, vague: number): number =>
      part.filter((each) => each.vagueWords === vague).length;
    expect([1, 2, 3].map((vague) => count(rl, vague))).toEqual([68, 123, 64]);
    expect(count(probe, 0)).toBe(49);
    for (const part of [rl, heldout, tuning]) {
      const thirds = KINDS.map((kind) => part.filter((each) => each.kind === kind).length);
      expect(thirds).toEqual(Array(3).fill(part.length / 3));
    }
  },
);

test("another seed trains on other instructions, and means other senses", () => {
  const [first, second] = [drawSplits(0), drawSplits(1)];
  const shared = first.rl.filter((each) => second.rl.includes(each)).length;
  expect(shared).toBeLessThan(100);
  expect(drawSenses(0)).not.toEqual(drawSenses(1));
  expect(Object.keys(drawSenses(0))).toHaveLength(VAGUE_PHRASES.length);
});

test("over many seeds each sense of each word is meant about a third of the time", () => {
  const counts = new Map<string, number[]>();
  for (let seed = 0; seed < 900; seed++) {
    for (const [word, sense] of Object.entries(drawSenses(seed))) {
      const of = counts.get(word) ?? [0, 0, 0];
      of[sense]!++;
      counts.set(word, of);
    }
  }
  // 300 expected, standard deviation 14: five of them either way.
  for (const count of [...counts.values()].flat()) expect(Math.abs(count - 300)).toBeLessThan(71);
});

test("the twin prints what real Lua prints, over 1500 programs of every kind and sense", async () => {
  const random = randomStream(11, "twin");
  const runs = random
    .shuffle(INSTRUCTIONS)
    .slice(0, 1500)
    .map((instruction) => {
      const ops = drawOps(instruction, random);
      return { instruction, ops, inputs: drawInputs(instruction.kind, TRAINING_LENGTHS, random) };
    });
  const outcomes = await createBatchRunner(sandbox.runLua)(
    runs.map(({ instruction, ops, inputs }) => ({ program: programOf(instruction.kind, ops), inputs })),
  );
  expect(
    runs.map(({ instruction, ops, inputs }) => inputs.map((input) => outputOf(instruction.kind, ops, input))),
  ).toEqual(outcomes.map((of) => of.map(({ stdout }) => stdout)));
});

test("same seed, same bytes: the tasks of seed 0 are pinned", () => {
  const hash = createHash("sha256").update(JSON.stringify(family)).digest("hex");
  expect(hash).toBe("27b0bb8fe27c05cae9994fda773d1d8db3f8ff85a1b7ccf4fa9c1efce8520cd1");
});

test("tasks have 6 tests to train on and 8 to measure by, all visible, all different", () => {
  const shape = (tasks: readonly Task[]): unknown => [
    tasks.length,
    ...new Set(tasks.map(({ tests }) => new Set(tests.map(({ input }) => input)).size)),
  ];
  expect([family.rl, family.heldout, family.probe, family.tuning].map(shape)).toEqual([
    [255, 6],
    [150, 8],
    [49, 8],
    [150, 8],
  ]);
  expect([...family.rl, ...family.heldout].every(({ tests }) => tests.every(({ visible }) => visible))).toBe(
    true,
  );
});

test("the verifier accepts a reference, and another sense of one word just where the search counted a survivor", async () => {
  const chosen = family.heldout.slice(0, 12);
  const submissions = chosen.flatMap((task) => {
    const instruction = byId.get(task.id)!;
    const truth = opsOf(instruction, family.senses);
    return [truth, ...alternatives(instruction, truth)].map((ops) => ({
      task,
      instruction,
      ops,
      isTrue: ops === truth,
    }));
  });
  const verdicts = await Promise.all(
    submissions.map(({ task, instruction, ops }, i) =>
      sandbox.pool.verify({ id: `${i}`, task, language: "lua", program: programOf(instruction.kind, ops) }),
    ),
  );
  const survives = submissions.map(({ task, instruction, ops }) =>
    task.tests.every(({ input, output }) => outputOf(instruction.kind, ops, input) === output),
  );
  expect(verdicts.map(({ status }) => status)).toEqual(
    survives.map((passes) => (passes ? "accepted" : "wrong_answer")),
  );
  expect(submissions.length).toBeGreaterThan(50);
  expect(submissions.filter(({ isTrue }, i) => isTrue && survives[i])).toHaveLength(12);
});

test("about 4% of the tasks keep a wrong sense, and only one that no input could tell apart", () => {
  const tasks = [...family.rl, ...family.heldout, ...family.tuning];
  const lengths = Array.from({ length: 400 }, (_, i) => 2 + (i % 3));
  let survivors = 0;
  const keeping = tasks.filter((task) => {
    const instruction = byId.get(task.id)!;
    const truth = opsOf(instruction, family.senses);
    const left = alternatives(instruction, truth).filter((ops) =>
      task.tests.every(({ input, output }) => outputOf(instruction.kind, ops, input) === output),
    );
    const fresh = drawInputs(instruction.kind, lengths, randomStream(1, "fresh", task.id));
    expect([task.id, survivorsOf(instruction.kind, truth, left, fresh)]).toEqual([task.id, left.length]);
    survivors += left.length;
    return left.length > 0;
  });
  expect(survivors).toBe(family.survivors);
  expect([keeping.length, survivors]).toEqual([25, 37]);
});

test("a runner that lies about a reference is found out", async () => {
  const lying = prepareFamily({
    seed: 0,
    runLua: async (programs) => {
      const printed = await sandbox.runLua(programs);
      return printed.map((outputs) => outputs.map((text) => text.replace("accepted\n2\n", "accepted\n3\n7")));
    },
  });
  await expect(lying).rejects.toThrow(/printed/);
});
