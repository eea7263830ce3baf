/** From what a format says of a problem to a task that can be trusted with a reward, or the reason why not. */
import { type Comparator, Task } from "../../core/index.js";
import { issuesText } from "../task-file.js";
import { excerpt, type Reason, RowRefused } from "./refusals.js";

/** A problem as its format tells it, not yet checked. */
export interface TaskDraft {
  readonly id: string;
  readonly prompt: string;
  readonly tests: readonly DraftTest[];
  readonly language?: string | undefined;
  readonly comparator: Comparator;
  readonly limits?: Task["limits"];
  readonly harness?: Task["harness"];
  readonly reference?: Task["reference"];
}

/** `visible` where the format itself tells public tests from private ones. */
export interface DraftTest {
  readonly input: string;
  readonly output: string;
  readonly visible?: boolean;
}

/** Which tests feedback may show. shown: those that the prompt shows anyway. */
export const VISIBILITIES = ["all", "none", "shown", "public"] as const;
export type Visibility = (typeof VISIBILITIES)[number];

export interface CheckOptions {
  readonly visible: Visibility;
  readonly minTests: number;
  /** A test without input or without output refuses the task. */
  readonly refusesBlanks: boolean;
  /** Control characters in tests are meant. In a prompt they never are. */
  readonly allowsControls: boolean;
}

/** A test that was left out of a task that was kept. */
export interface DroppedTest {
  /** Position in the row, from 1. */
  readonly test: number;
  readonly reason: Reason;
  readonly message: string;
}

// Half characters (lone surrogates) and U+FFFD are what is left of text that was decoded wrongly.
const UNPRINTABLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\ufffd]|\p{Surrogate}/u;

const HALF_CHARACTER = /\p{Surrogate}/u; // no UTF-8 holds it

function refuseCharacters(pattern: RegExp, text: string, where: string): void {
  const found = pattern.exec(text);
  if (found === null) return;
  const code = text.charCodeAt(found.index).toString(16).padStart(4, "0");
  throw new RowRefused("control_characters", `U+${code} at character ${found.index + 1} of ${where}`);
}

const wordsOf = (text: string): string[] => text.split(/\s+/).filter((word) => word !== "");

/** Two outputs in a form that is equal where the comparator takes the one for the other. */
function sameAnswer(comparator: Comparator, a: string, b: string): boolean {
  if (a === b) return true;
  switch (comparator) {
    case "exact":
      return false;
    case "trailing":
      return a.trimEnd() === b.trimEnd();
    case "unordered":
      return a.trim().split(/\s*\n/).sort().join("\n") === b.trim().split(/\s*\n/).sort().join("\n");
    case "float": {
      const [left, right] = [wordsOf(a), wordsOf(b)];
      const isSame = (x: string, y: string): boolean =>
        x === y || Math.abs(Number(x) - Number(y)) <= 1e-6 * Math.max(1, Math.abs(Number(x)));
      return left.length === right.length && left.every((word, at) => isSame(word, right[at]!));
    }
    case "sandboxfusion":
      return wordsOf(a.toLowerCase()).join(" ") === wordsOf(b.toLowerCase()).join(" ");
    default:
      return wordsOf(a).join(" ") === wordsOf(b).join(" ");
  }
}

/** A line end more or less makes no other input, unless every byte counts. */
const inputKey = (comparator: Comparator, input: string): string =>
  comparator === "exact" ? input : input.trimEnd();

/** Tests without repetition. @throws RowRefused where two contradict each other */
function distinctTests(draft: TaskDraft, dropped: DroppedTest[]): DraftTest[] {
  const { comparator } = draft;
  const seen = new Map<string, { test: number; output: string }>();
  return draft.tests.filter(({ input, output }, index) => {
    const key = inputKey(comparator, input);
    const earlier = seen.get(key);
    if (earlier === undefined) {
      seen.set(key, { test: index + 1, output });
      return true;
    }
    if (sameAnswer(comparator, earlier.output, output)) {
      dropped.push({
        test: index + 1,
        reason: "duplicate_test",
        message: `the same as test ${earlier.test}`,
      });
      return false;
    }
    if (typeof comparator !== "string") return true; // a checker may take more than one answer
    throw new RowRefused(
      "contradictory_tests",
      `tests ${earlier.test} and ${index + 1} have the input ${excerpt(input)}; one expects ${excerpt(earlier.output)}, the other ${excerpt(output)}`,
    );
  });
}

function checkBlanks({ tests, comparator }: TaskDraft, refusesBlanks: boolean): void {
  if (comparator === "exit") return;
  if (refusesBlanks) {
    const blank = tests.findIndex(({ input, output }) => input.trim() === "" || output.trim() === "");
    if (blank >= 0) {
      const what = tests[blank]!.output.trim() === "" ? "output" : "input";
      throw new RowRefused("blank_test", `test ${blank + 1} has no ${what}`);
    }
  }
  if (typeof comparator === "string" && tests.every(({ output }) => output.trim() === "")) {
    throw new RowRefused("no_answer", `the output of each of ${tests.length} tests is empty`);
  }
}

/** Whether a prompt shows a text as lines of its own. */
function showsLines(prompt: string, text: string): boolean {
  const wanted = text.trim();
  return wanted !== "" && wanted.length <= prompt.length && `\n${prompt}\n`.includes(`\n${wanted}\n`);
}

function isVisible(test: DraftTest, prompt: string, visible: Visibility): boolean {
  if (visible === "public") return test.visible ?? true;
  if (visible === "shown") return showsLines(prompt, test.input) && showsLines(prompt, test.output);
  return visible === "all";
}

/**
 * The task of a draft.
 * @param dropped - tests that are left out are added to it
 * @throws RowRefused with the first reason that keeps it from being one
 */
export function checkedTask(draft: TaskDraft, options: CheckOptions, dropped: DroppedTest[]): Task {
  const prompt = draft.prompt.replaceAll("\r\n", "\n");
  if (prompt.trim() === "") throw new RowRefused("empty_prompt", "the prompt is empty");
  if (draft.tests.length === 0) throw new RowRefused("no_tests", "the row has no tests");
  refuseCharacters(UNPRINTABLE, prompt, "the prompt");
  const pattern = options.allowsControls ? HALF_CHARACTER : UNPRINTABLE;
  draft.tests.forEach(({ input, output }, index) => {
    refuseCharacters(pattern, input, `the input of test ${index + 1}`);
    refuseCharacters(pattern, output, `the output of test ${index + 1}`);
  });
  checkBlanks(draft, options.refusesBlanks);
  const tests = distinctTests(draft, dropped);
  if (tests.length < options.minTests) {
    throw new RowRefused("too_few_tests", `${tests.length} different tests; asked for: ${options.minTests}`);
  }
  const parsed = Task.safeParse({
    ...draft,
    prompt,
    tests: tests.map((test) => ({
      input: test.input,
      output: test.output,
      visible: isVisible(test, prompt, options.visible),
    })),
  });
  if (!parsed.success) throw new RowRefused("wrong_shape", issuesText(parsed.error));
  return parsed.data;
}
