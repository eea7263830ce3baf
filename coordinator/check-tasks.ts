/** What must be right of a run's tasks before anything is started. */
import { ConfigError } from "../core/index.js";
import type { Language, LanguageSet } from "../verifiers/index.js";
import type { RunConfig } from "./config.js";
import type { TaskSets } from "./open-tasks.js";

/**
 * The languages that a run's programs are written in.
 * @throws ConfigError naming the first task whose language no file defines: in the run it would fail hours later
 */
export function languagesUsed(config: RunConfig, tasks: TaskSets, languages: LanguageSet): Language[] {
  const used = new Set([languages.get(config.languages.default)]);
  for (const { id, language: name } of [...tasks.train, ...Object.values(tasks.evaluation).flat()]) {
    if (name === undefined) continue;
    const language = languages.find(name);
    if (language === undefined) {
      throw new ConfigError({
        at: `task ${id}: language`,
        got: name,
        need: `one of ${languages.names.join(", ")}`,
        fix: "languages.folders takes a language file of your own.",
      });
    }
    used.add(language);
  }
  return [...used];
}

/** @throws ConfigError where imitation of demonstrations is asked for and no task has one */
export function checkDemonstrations({ objective, languages }: RunConfig, { train }: TaskSets): void {
  if (objective.type !== "sft") return;
  if (train.some(({ reference, language }) => reference?.[language ?? languages.default] !== undefined))
    return;
  throw new ConfigError({
    at: "objective.type",
    got: "sft",
    need: `tasks with a reference program in ${languages.default}: it imitates them`,
    fix: "Add `reference` to the tasks, or let the policy learn from its own programs: raft, grpo, sdpo or mix.",
  });
}
