import type { ChatMessage } from "../policy/index.js";

/**
 * The conversation of a task: an optional system prompt, then the task's prompt with the language's own instruction
 * after a blank line (Agnostics' training prompt suffix; empty where a language has none).
 */
export function promptMessages(
  { systemPrompt, languagePrompt }: { systemPrompt: string | null; languagePrompt: string },
  prompt: string,
): ChatMessage[] {
  const content = languagePrompt === "" ? prompt : `${prompt}\n\n${languagePrompt}`;
  const user: ChatMessage = { role: "user", content };
  return systemPrompt === null ? [user] : [{ role: "system", content: systemPrompt }, user];
}
