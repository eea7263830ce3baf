import type { Task } from "../core/index.js";
import type { ChatMessage } from "../policy/index.js";
import type { LanguageSet } from "../verifiers/index.js";
import type { RunConfig } from "./config.js";

/** What stands around the prompts of a run's tasks. */
export interface PromptSurroundings {
  readonly systemPrompt: string | null;
  /** The instruction of the language that a task's program is written in; empty for none. */
  languagePrompt(task: Pick<Task, "language">): string;
}

/** @throws ConfigError in `languagePrompt` for a language that no file defines */
export const runSurroundings = (
  {
    policy,
    languages,
  }: {
    readonly policy: Pick<RunConfig["policy"], "system_prompt">;
    readonly languages: Pick<RunConfig["languages"], "default" | "instruct">;
  },
  set: LanguageSet,
): PromptSurroundings => ({
  systemPrompt: policy.system_prompt,
  languagePrompt: ({ language }) => (languages.instruct ? set.get(language ?? languages.default).prompt : ""),
});

/**
 * The conversation of a task: an optional system prompt, then the task's prompt with the language's own instruction
 * after a blank line (Agnostics' training prompt suffix; empty where a language has none).
 * @param prompt - what to say instead of the task's own, as a self-teacher is told more
 */
export function taskMessages(
  { systemPrompt, languagePrompt }: PromptSurroundings,
  task: Pick<Task, "language" | "prompt">,
  prompt = task.prompt,
): ChatMessage[] {
  const instruction = languagePrompt(task);
  const user: ChatMessage = {
    role: "user",
    content: instruction === "" ? prompt : `${prompt}\n\n${instruction}`,
  };
  return systemPrompt === null ? [user] : [{ role: "system", content: systemPrompt }, user];
}
