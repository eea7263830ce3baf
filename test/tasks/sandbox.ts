/** The real sandbox behind the functions that the family asks for. */
import { luaRunner } from "../../coordinator/open-tasks.js";
import type { IoTest, TestOutcome } from "../../core/index.js";
import type { RunLua } from "../../tasks/index.js";
import { createLocalPool, type LocalPool, loadLanguages, testFeedback } from "../../verifiers/index.js";

export interface LuaSandbox {
  readonly pool: LocalPool;
  readonly runLua: RunLua;
  readonly feedback: (tests: readonly IoTest[], outcomes: readonly TestOutcome[]) => string;
}

/** With the limits of the quick start. */
export async function openLuaSandbox(): Promise<LuaSandbox> {
  const languages = loadLanguages();
  const pool = await createLocalPool({ languages, limits: { time_s: 2, memory_mb: 64 } });
  const lua = languages.get("lua");
  return {
    pool,
    runLua: luaRunner(pool),
    feedback: (tests, outcomes) => testFeedback(tests, outcomes, lua),
  };
}
