import { warmStartExamples } from "../tasks/index.js";
import type { Provider } from "../tensor/index.js";
import { teacherPrompt } from "../trainer/index.js";
import { type LocalPool, testFeedback } from "../verifiers/index.js";
import { luaRunner } from "./open-tasks.js";
import type { Progress } from "./progress.js";
import { WARM_START_STEPS, warmStart, warmStartExampleCount } from "./warm-start.js";

/**
 * The quick start's warm start, from nothing: corpus (its wrong programs really run, in the sandbox), tokenizer, weights,
 * supervised steps. The shipped one was made by this with the defaults.
 */
export async function makeWarmStart(request: {
  readonly folder: string;
  readonly verifier: LocalPool;
  readonly provider: Provider;
  readonly threads: number;
  readonly progress: Progress;
  readonly seed?: number;
  readonly steps?: number;
}): Promise<void> {
  const { folder, verifier, provider, threads, progress, seed = 0, steps = WARM_START_STEPS } = request;
  const count = warmStartExampleCount(steps);
  const lua = verifier.languages.get("lua");
  progress.note(`writing ${count} demonstrations`);
  const examples = await warmStartExamples({
    count,
    runLua: luaRunner(verifier),
    feedback: (tests, outcomes) => testFeedback(tests, outcomes, lua),
    teacherPrompt,
  });
  await warmStart({ folder, examples, seed, provider, threads, progress });
}
