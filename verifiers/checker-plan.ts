/** From a task's checker to what the broker runs. */
import type { Checker } from "../core/index.js";
import type { CheckerPlan } from "./job.js";
import type { Language } from "./languages.js";
import { checkerLimits, compileLimits } from "./limits.js";

/** @param image - container image; null for bubblewrap */
export function checkerPlan(checker: Checker, language: Language, image: string | null): CheckerPlan {
  const { execute, messages } = language;
  return {
    language: language.name,
    fileName: language.filename,
    program: checker.program,
    compile: language.compile ?? null,
    execute,
    env: language.env,
    mounts: language.mounts,
    image,
    ...(messages === undefined ? {} : { messages }),
    compileLimits: compileLimits(language),
    limits: checkerLimits(language),
    acceptsAnswer: checker.accepts_answer,
  };
}
