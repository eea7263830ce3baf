import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Attempt,
  encodeTeacherPrompt,
  SDPO_TEMPLATES,
  type SelfTeacherOptions,
  selfTeacherMetrics,
  teacherContexts,
  teacherPrompt,
} from "../../trainer/index.js";
import { expectClose, vector } from "./vectors.js";

interface ReferenceSample {
  uid: string;
  score: number;
  response: string;
  feedback: string | null;
  prompt: string;
}
interface ReferenceCase {
  config: Record<string, boolean> & { success_reward_threshold: number };
  expected: {
    solution_from_index: number | null;
    feedback_used: boolean;
    self_distillation_mask: number;
    teacher_user_message: string;
  }[];
}
const attempts: Attempt[] = vector<ReferenceSample[]>("reprompt", "samples").map((sample) => ({
  group: sample.uid,
  prompt: sample.prompt,
  completion: sample.response,
  reward: sample.score,
  feedback: sample.feedback,
}));
const cases = vector<ReferenceCase[]>("reprompt", "cases");

function optionsOf({ config }: ReferenceCase): SelfTeacherOptions {
  const always = config.environment_feedback_only_without_solution ? "without_demonstration" : "always";
  return {
    demonstration: "first",
    feedback: config.include_environment_feedback ? always : "never",
    selfDemonstration: !config.dont_reprompt_on_self_success,
    removeThinking: config.remove_thinking_from_demonstration!,
    successThreshold: config.success_reward_threshold,
  };
}

describe("SDPO's reference numbers", () => {
  test("the templates, word for word", () => {
    expect(SDPO_TEMPLATES).toEqual(vector("reprompt", "templates"));
  });

  test.each(cases.map((reference, index) => ({ index, reference })))(
    "who is shown what, case $index",
    ({ reference }) => {
      const got = teacherContexts(attempts, optionsOf(reference)).map((context) => ({
        solution_from_index: context.solutionFrom,
        feedback_used: context.feedback !== null,
        self_distillation_mask: context.isTrained ? 1 : 0,
        teacher_user_message: context.prompt,
      }));
      expect(got).toEqual(reference.expected);
    },
  );

  test("metrics of case 0", () => {
    const contexts = teacherContexts(attempts, optionsOf(cases[0]!));
    const got = selfTeacherMetrics(attempts, contexts, 0.5);
    const want = vector<Record<string, number>>("reprompt", "metrics_case0");
    expect(Object.keys(got)).toEqual(Object.keys(want));
    expectClose(Object.values(got), Object.values(want), 1e-12);
  });
});

const defaults: SelfTeacherOptions = {
  demonstration: "random",
  feedback: "without_demonstration",
  selfDemonstration: false,
  removeThinking: true,
  successThreshold: 0.5,
};
const attempt = (
  reward: number | null,
  completion = "program",
  feedback: string | null = "failed",
): Attempt => ({
  group: "g",
  prompt: "P",
  completion,
  reward,
  feedback,
});

describe("teacherContexts", () => {
  const rewards = fc.array(fc.constantFrom(0, 1, null), { minLength: 1, maxLength: 8 });

  test("a random demonstration is another success of the same group", () =>
    fc.assert(
      fc.property(rewards, rewards, fc.nat(), (first, second, seed) => {
        const batch = [
          ...first.map((reward) => ({ ...attempt(reward), group: "a" })),
          ...second.map((reward) => ({ ...attempt(reward), group: "b" })),
        ];
        teacherContexts(batch, defaults, seed).forEach(({ solutionFrom: from }, i) => {
          if (from === null) return;
          expect([batch[from]!.reward, batch[from]!.group, from === i]).toEqual([1, batch[i]!.group, false]);
        });
      }),
    ));

  test("the choice follows the seed, and every sibling gets its turn", () => {
    const batch = [attempt(0), attempt(1), attempt(1), attempt(1)];
    const choices = Array.from(
      { length: 40 },
      (_, seed) => teacherContexts(batch, defaults, seed)[0]!.solutionFrom,
    );
    const again = Array.from(
      { length: 40 },
      (_, seed) => teacherContexts(batch, defaults, seed)[0]!.solutionFrom,
    );
    expect(choices).toEqual(again);
    expect(new Set(choices)).toEqual(new Set([1, 2, 3]));
  });

  test("an infrastructure failure neither trains nor demonstrates", () => {
    const [failed, lost] = teacherContexts([attempt(0, "x", ""), attempt(null)], defaults);
    expect([failed!.isTrained, lost!.isTrained]).toEqual([false, false]);
  });

  test("a lone success trains only where it may be shown its own program", () => {
    const batch = [attempt(1, "mine", ""), attempt(0)];
    expect(teacherContexts(batch, defaults)[0]).toMatchObject({ solution: null, isTrained: false });
    expect(teacherContexts(batch, { ...defaults, selfDemonstration: true })[0]).toMatchObject({
      solution: "mine",
      isTrained: true,
    });
  });

  test("thoughts are cut out of a demonstration; an unclosed one is left", () => {
    const shown = (completion: string): string | null =>
      teacherContexts([attempt(0), attempt(1, completion)], defaults)[0]!.solution;
    expect(shown("<think>a\n</think>\n\nx = 1<think>b</think> y")).toBe("x = 1y");
    expect(shown("<think>never closed")).toBe("<think>never closed");
  });
});

describe("teacherPrompt", () => {
  test("braces and dollar signs in what is put in stay as they are", () => {
    const text = teacherPrompt({ prompt: "{solution} $&", solution: "{feedback_raw}", feedback: "{prompt}" });
    expect(text).toBe(
      "{solution} $&\nCorrect solution:\n\n{feedback_raw}\nThe following is feedback from your unsuccessful" +
        " earlier attempt:\n\n{prompt}\n\nCorrectly solve the original question.",
    );
  });

  test("nothing to show: the bare prompt", () => {
    expect(teacherPrompt({ prompt: "P", solution: "", feedback: "" })).toBe("P");
    expect(teacherPrompt({ prompt: "P", solution: null, feedback: " \n" })).toBe("P");
  });

  test("own templates replace SDPO's one by one", () => {
    const templates = {
      solution: " [{successful_previous_attempt}]",
      reprompt: "{prompt}{solution}{feedback}!",
    };
    expect(teacherPrompt({ prompt: "P", solution: "S", feedback: null, templates })).toBe("P [S]!");
  });
});

describe("encodeTeacherPrompt", () => {
  const encode = (text: string): number[] => [...text].map((character) => character.codePointAt(0)!);
  const decode = (ids: readonly number[]): string => String.fromCodePoint(...ids);
  const parts = { prompt: "P", feedback: `Runtime Error${"-".repeat(400)}Expected 8!` };
  const whole = teacherPrompt(parts);

  test("what fits is left alone", () => {
    expect(decode(encodeTeacherPrompt(parts, encode, whole.length)!)).toBe(whole);
  });

  test("what is too long loses the middle of its feedback and fills the budget", () => {
    const text = decode(encodeTeacherPrompt(parts, encode, 200)!);
    expect(text).toHaveLength(200);
    expect(text).toMatch(
      /^P\nThe following is feedback[\s\S]*Runtime Error-+\n\.\.\.\n-+Expected 8!\n\nCorrectly solve/,
    );
    expect(text.endsWith("Correctly solve the original question.")).toBe(true);
  });

  test("a demonstration is never cut: without room for it there is no teacher", () => {
    expect(encodeTeacherPrompt({ prompt: "P", solution: "x".repeat(500) }, encode, 200)).toBeNull();
    expect(encodeTeacherPrompt(parts, encode, 40)).toBeNull();
  });
});
