/**
 * Whether a language's tool is absent, where only a shell knows: commands with pipes or quotes go through `sh`, which
 * answers for the tool. The question is put with an empty program, so that no program can claim that its tool is missing
 * and so escape its verdict.
 */
import type { TestOutcome } from "../core/index.js";
import type { JobResult } from "./job.js";
import type { Language } from "./languages.js";
import { commandArguments } from "./sandbox.js";

/** dash, bash and busybox, in this order. */
const NOT_FOUND = /^(?:\/bin\/)?sh: (?:(?:line )?\d+: )?\S+: (?:command )?not found$/m;

const outcomes = ({ compile, tests }: JobResult): readonly TestOutcome[] =>
  compile === null ? tests : [compile];

/** Whether the result of a program gives reason to ask. */
export function mayLackTool(language: Language, result: JobResult): boolean {
  const commands = [language.compile, language.execute].filter((command) => command !== undefined);
  const hasShell = commands.some((command) => commandArguments(command)[0] === "/bin/sh");
  return hasShell && outcomes(result).some(({ status }) => status !== "accepted");
}

/** @param result - of an empty program. @returns the shell's words about the command that it did not find, or null */
export function missingTool(result: JobResult): string | null {
  if (result.infrastructure !== null) return null;
  for (const { stderr } of outcomes(result)) {
    const words = NOT_FOUND.exec(stderr);
    if (words) return words[0];
  }
  return null;
}
