/** What a language model is asked in order to rewrite an exercise, and how its reply is read. */
import { z } from "zod";
import type { FunctionProblem } from "../../tasks/index.js";

export interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** What the model proposes; nothing of it is believed before it has run. */
export const Proposal = z.object({
  description: z.string().min(1),
  input_format: z.string().min(1),
  output_format: z.string().min(1),
  tests: z.array(z.object({ input: z.string(), output: z.string() })).min(1),
  program: z.string().min(1),
});
export type Proposal = z.infer<typeof Proposal>;

const SYSTEM = `You prepare exercises for programmers of every language. Each is given as a Python function with assertions; \
you restate it as a program that reads standard input and prints to standard output, so that it can be solved and judged \
in a language that has never heard of Python.`;

const RULES = `Reply with one JSON object and nothing else, with these keys:
- "description": the problem in plain words. It names no function, no Python type and no Python behaviour; whoever reads it \
without the code can solve it, corner cases and ties included.
- "input_format": what each line of the input holds, in which order, and how lists are written (their length first, or all on one line).
- "output_format": what is printed, in which order, and how numbers, truth values and empty results are written.
- "tests": a list of {"input": ..., "output": ...}, both texts as the program reads and prints them. Begin with the cases of the \
assertions and add others until there are at least MIN_TESTS different inputs, small ones and corner cases among them. No input and no output is empty.
- "program": a complete Python 3 program of the standard library alone. It defines the function by its own name, doing what \
the given one does; it reads standard input only below  if __name__ == "__main__":  and prints exactly what the output format says. \
It prints the same each time: no random numbers, no clock, no order that comes from a set.`;

function fenced(text: string): string {
  return `\`\`\`python\n${text.trimEnd()}\n\`\`\``;
}

/** The conversation that asks for a first proposal. */
export function firstMessages(problem: FunctionProblem, minTests: number): Message[] {
  const solution = problem.code === null ? [] : [`Solution:\n${fenced(problem.code)}`];
  const tests = [problem.setup, ...problem.assertions].filter((part) => part !== "").join("\n");
  const content = [
    `Exercise:\n${problem.text}`,
    ...solution,
    `Assertions:\n${fenced(tests)}`,
    RULES.replace("MIN_TESTS", String(minTests)),
  ].join("\n\n");
  return [
    { role: "system", content: SYSTEM },
    { role: "user", content },
  ];
}

/** Longest part of a bad reply that is shown to its author again. */
const REPLY_CHARS = 12_000;

/** The conversation goes on: what was wrong of the reply, and the request for another. */
export const withComplaint = (messages: readonly Message[], reply: string, complaint: string): Message[] => [
  // The first request and the last try: earlier ones would only fill the context.
  ...messages.slice(0, 2),
  { role: "assistant", content: reply.slice(0, REPLY_CHARS) },
  {
    role: "user",
    content: `That was refused: ${complaint}\n\nReply with the whole JSON object again, corrected.`,
  },
];

const THOUGHT_END = "</think>";

/** The texts of a reply that may be the object: what a model says around it is put aside. */
function candidates(reply: string): string[] {
  const thought = reply.lastIndexOf(THOUGHT_END);
  const said = thought < 0 ? reply : reply.slice(thought + THOUGHT_END.length);
  const fence = /^ {0,3}```[\w-]*[ \t]*\r?\n([\s\S]*?)^ {0,3}```[ \t]*$/gm;
  const blocks = [...said.matchAll(fence)].map(([, body]) => body!);
  const [from, to] = [said.indexOf("{"), said.lastIndexOf("}")];
  return [said, ...blocks.reverse(), ...(from >= 0 && to > from ? [said.slice(from, to + 1)] : [])];
}

function parsed(text: string): { value: unknown } | { error: string } {
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    return { error: (error as Error).message.slice(0, 200) };
  }
}

/** The proposal of a reply, or what is wrong of it, in words for its author. */
export function readReply(reply: string): Proposal | string {
  const texts = candidates(reply).map(parsed);
  const found = texts.find(
    (text) => "value" in text && typeof text.value === "object" && text.value !== null,
  );
  if (found === undefined || !("value" in found)) {
    const last = texts.at(-1)!;
    return `the reply is not one JSON object (${"error" in last ? last.error : "it holds none"})`;
  }
  const proposal = Proposal.safeParse(found.value);
  if (proposal.success) return proposal.data;
  const issues = proposal.error.issues
    .slice(0, 5)
    .map(({ path, message }) => `${path.join(".") || "the object"}: ${message}`);
  return `the JSON object is not as asked for: ${issues.join("; ")}`;
}
