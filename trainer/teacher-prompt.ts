/** The three texts of a self-teacher's prompt. `{name}` is replaced; other braces, also in what is put in, stay. */
export interface RepromptTemplates {
  /** Takes {prompt}, {solution} and {feedback}; an absent section is "". */
  readonly reprompt: string;
  /** Takes {successful_previous_attempt}. */
  readonly solution: string;
  /** Takes {feedback_raw}. */
  readonly feedback: string;
}

/** Word for word those of SDPO, arXiv 2601.20802; code lasgroup/SDPO, Apache-2.0. */
export const SDPO_TEMPLATES: RepromptTemplates = {
  reprompt: "{prompt}{solution}{feedback}\n\nCorrectly solve the original question.",
  solution: "\nCorrect solution:\n\n{successful_previous_attempt}",
  feedback: "\nThe following is feedback from your unsuccessful earlier attempt:\n\n{feedback_raw}",
};

/** What the self-teacher may read besides the task. */
export interface TeacherPromptParts {
  readonly prompt: string;
  /** A program that passed; null, missing or "": none. */
  readonly solution?: string | null;
  /** What execution said of the attempt; null, missing or blank: none. */
  readonly feedback?: string | null;
  readonly templates?: Partial<RepromptTemplates>;
}

/**
 * The user message shown to the self-teacher. The attempt itself is not in it: its tokens are what the teacher scores.
 * @returns the bare prompt when there is neither a solution nor feedback
 */
export function teacherPrompt({ prompt, solution, feedback, templates }: TeacherPromptParts): string {
  const text = { ...SDPO_TEMPLATES, ...templates };
  const hasSolution = solution !== null && solution !== undefined && solution !== "";
  const hasFeedback = !isBlank(feedback);
  if (!hasSolution && !hasFeedback) return prompt;
  return fill(text.reprompt, {
    prompt,
    solution: hasSolution ? fill(text.solution, { successful_previous_attempt: solution }) : "",
    feedback: hasFeedback ? fill(text.feedback, { feedback_raw: feedback! }) : "",
  });
}

export function isBlank(text: string | null | undefined): boolean {
  return text === null || text === undefined || text.trim() === "";
}

/** One pass, so that braces in a prompt, program or feedback are never taken for a name. */
function fill(template: string, values: Readonly<Record<string, string>>): string {
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => values[name] ?? whole);
}

/** A program without its `<think>...</think>` spans and the blank after them; an unclosed one is left alone. */
export function withoutThinking(completion: string): string {
  return completion.replace(/<think>.*?<\/think>\s*/gs, "");
}

const CUT = "\n...\n";

/**
 * The encoded teacher prompt within a budget of tokens. A longer one loses the middle of its feedback (the first and
 * last lines of an error say most), never the task, the solution or the closing instruction.
 * @param encode - chat template and tokenizer: the user message to prompt ids
 * @returns null when it does not fit even so; the sample then has no teacher: half a program is no demonstration
 */
export function encodeTeacherPrompt(
  parts: TeacherPromptParts,
  encode: (userMessage: string) => readonly number[],
  maxTokens: number,
): readonly number[] | null {
  const whole = encode(teacherPrompt(parts));
  if (whole.length <= maxTokens) return whole;
  if (isBlank(parts.feedback)) return null;
  const feedback = [...parts.feedback!]; // code points: half a surrogate pair would become an unknown token
  const encodeWith = (kept: number): readonly number[] => {
    const head = feedback.slice(0, Math.ceil(kept / 2)).join("");
    const tail = feedback.slice(feedback.length - Math.floor(kept / 2)).join("");
    return encode(teacherPrompt({ ...parts, feedback: head + CUT + tail }));
  };
  let best: readonly number[] | null = null;
  let [low, high] = [1, feedback.length - 1];
  while (low <= high) {
    const middle = (low + high) >> 1;
    const ids = encodeWith(middle);
    if (ids.length <= maxTokens) [best, low] = [ids, middle + 1];
    else high = middle - 1;
  }
  return best;
}
