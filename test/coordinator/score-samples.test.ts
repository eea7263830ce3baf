import { describe, expect, test } from "vitest";
import type { Attempt } from "../../coordinator/attempts.js";
import { type RewardedAttempt, type ScoringContext, scoreSamples } from "../../coordinator/score-samples.js";
import { Task } from "../../core/index.js";
import type { PolicyTokenizer } from "../../policy/index.js";
import { ObjectiveConfig } from "../../trainer/index.js";

/** One id a character: the layout of prompts can be read off the ids. */
const characters: PolicyTokenizer = {
  encode: (text) => [...text].map((character) => character.codePointAt(0)!),
  decode: (ids) => String.fromCodePoint(...ids),
  tokenText: (id) => String.fromCodePoint(id),
  promptIds: (messages) =>
    [...messages.map(({ content }) => content).join("\n")].map((c) => c.codePointAt(0)!),
  stopIds: [0],
  vocabulary: 0x10000,
};

const task = Task.parse({ id: "double", prompt: "Double it.", tests: [{ input: "1\n", output: "2\n" }] });

function attempt(
  group: number,
  sample: number,
  reward: number | null,
  program: string,
  feedback = "",
): RewardedAttempt {
  const rollout = {
    id: `${group}.${sample}`,
    taskId: task.id,
    group,
    sample,
    promptIds: [1, 2],
    completionIds: [3, 4],
    completion: program,
    rolloutLogProbs: [-1, -1],
    finishReason: "stop" as const,
    policyVersion: 1,
  };
  const verdict = {
    status:
      reward === 1
        ? ("accepted" as const)
        : reward === 0
          ? ("wrong_answer" as const)
          : ("infrastructure" as const),
    reward,
    passed: reward ?? 0,
    total: 1,
    tests: [],
    feedback,
    comparator: "tokens" as const,
    cached: false,
  };
  return { attempt: { task, rollout, program, verdict } satisfies Attempt, reward };
}

const score = (
  objective: unknown,
  batch: RewardedAttempt[],
  languagePrompt: ScoringContext["languagePrompt"] = () => "",
) =>
  scoreSamples(
    {
      objective: ObjectiveConfig.parse(objective),
      tokenizer: characters,
      systemPrompt: null,
      languagePrompt,
      seed: 1,
      language: "lua",
      programIn: "fenced",
    },
    batch,
  );

describe("scoreSamples", () => {
  test("grpo: advantages are over each group, without a teacher", () => {
    const batch = [
      attempt(0, 0, 1, "a"),
      attempt(0, 1, 0, "b"),
      attempt(1, 0, 1, "c"),
      attempt(1, 1, 1, "d"),
    ];
    const { samples, teacherMetrics } = score({ type: "grpo" }, batch);
    expect(samples.map(({ advantage }) => advantage)).toEqual([0.5, -0.5, 0, 0]);
    expect(samples.every(({ teacherPromptIds }) => teacherPromptIds === null)).toBe(true);
    expect(teacherMetrics).toBeNull();
  });

  test("a rollout that infrastructure failures left alone in its group has no advantage, nor have they", () => {
    const batch = [attempt(0, 0, 1, "a"), attempt(0, 1, null, "b"), attempt(0, 2, null, "c")];
    const { samples } = score({ type: "grpo" }, batch);
    expect(samples.map(({ advantage, reward }) => [advantage, reward])).toEqual([
      [0, 1],
      [0, null],
      [0, null],
    ]);
  });

  test("sdpo: a failure is shown its sibling's program, in the paper's layout", () => {
    const batch = [attempt(0, 0, 1, "print(2)"), attempt(0, 1, 0, "print(1)", "wrong")];
    const { samples, teacherMetrics } = score({ type: "sdpo" }, batch);
    expect(samples[0]!.teacherPromptIds).toBeNull();
    expect(characters.decode(samples[1]!.teacherPromptIds!)).toBe(
      "Double it.\nCorrect solution:\n\nprint(2)\n\nCorrectly solve the original question.",
    );
    expect(teacherMetrics).toMatchObject({ success_group_fraction: 1, feedback_used_fraction: 0 });
  });

  test("sdpo: without a success the failure is shown its own feedback", () => {
    const { samples } = score({ type: "sdpo" }, [attempt(0, 0, 0, "x", "Output\n1\n\nExpected\n2")]);
    expect(characters.decode(samples[0]!.teacherPromptIds!)).toBe(
      "Double it.\nThe following is feedback from your unsuccessful earlier attempt:\n\nOutput\n1\n\nExpected\n2" +
        "\n\nCorrectly solve the original question.",
    );
  });

  test("the self-teacher of a task that names its language reads that language's instruction", () => {
    const [own, failed] = [{ ...task, language: "ocaml" }, attempt(0, 0, 0, "x", "wrong")];
    const batch = [{ ...failed, attempt: { ...failed.attempt, task: own } }, attempt(1, 0, 0, "y", "wrong")];
    const { samples } = score({ type: "sdpo" }, batch, ({ language }) => `In ${language ?? "lua"}.`);
    const ends = samples.map(({ teacherPromptIds }) =>
      characters.decode(teacherPromptIds!).split("\n").at(-1),
    );
    expect(ends).toEqual(["In ocaml.", "In lua."]);
  });

  test("an infrastructure failure is neither trained nor shown to others", () => {
    const { samples } = score({ type: "mix" }, [attempt(0, 0, null, "a"), attempt(0, 1, 0, "b")]);
    expect(samples.map(({ teacherPromptIds }) => teacherPromptIds)).toEqual([null, null]);
    expect(samples.map(({ reward }) => reward)).toEqual([null, 0]);
  });

  test("sft: the reference program stands in for each group's first attempt, as it would have been judged", () => {
    const shown = { ...task, reference: { lua: "print(2)\n" } };
    const batch = [attempt(0, 0, 0, "a"), attempt(0, 1, 1, "b"), attempt(1, 0, 1, "c")];
    const withReference = batch.map((each, i) =>
      i < 2 ? { ...each, attempt: { ...each.attempt, task: shown } } : each,
    );
    const { samples, teacherMetrics } = score({ type: "sft" }, withReference);
    expect(samples.map(({ reward }) => reward)).toEqual([1, null, null]);
    expect(characters.decode(samples[0]!.completionIds)).toBe("```lua\nprint(2)\n```\0");
    expect(teacherMetrics).toBeNull();
  });
});
