/**
 * A run's configuration: the parts' schemas under one roof, and what must agree between them. The schemas come from their own
 * files: a command that only reads a run file would otherwise load tfjs and ONNX Runtime, most of a second.
 */
import { availableParallelism } from "node:os";
import { z } from "zod";
import { PolicyConfig } from "../policy/run-config.js";
import { RolloutConfig } from "../rollout/config.js";
import { hasTeacher, ObjectiveConfig } from "../trainer/objective-config.js";
import { OptimizerConfig } from "../trainer/optimizer-config.js";
import { VerifierConfig } from "../verifiers/config.js";
import { checkEngine, type Purpose } from "./check-engine.js";
import { loadConfigFile } from "./config-file.js";
import {
  CheckpointSection,
  EvaluationSection,
  LanguagesSection,
  LoggingSection,
  RunSection,
} from "./sections.js";
import { TasksSection } from "./tasks-section.js";

/** The run file, before what must agree between its sections is checked. */
const Sections = z.strictObject({
  run: RunSection.prefault({}),
  policy: PolicyConfig,
  tasks: TasksSection,
  languages: LanguagesSection.prefault({}),
  rollout: RolloutConfig.prefault({}),
  verifier: VerifierConfig.prefault({}),
  objective: ObjectiveConfig,
  optimizer: OptimizerConfig,
  evaluation: EvaluationSection.prefault({}),
  checkpoint: CheckpointSection.prefault({}),
  logging: LoggingSection.prefault({}),
});

/** Of one step, which holds them all: far above any that was ever trained, far below what no machine ends. */
const MOST_ATTEMPTS = 1_000_000;

/** What a run file (YAML) holds. */
export const RunConfig = Sections.superRefine((config, context) =>
  checkSections(config, "training", (path, message) =>
    context.addIssue({ code: "custom", path: [...path], message }),
  ),
).meta({ title: "Retort run" });
export type RunConfig = z.infer<typeof RunConfig>;

const EvaluatedRunConfig = Sections.superRefine((config, context) =>
  checkSections(config, "evaluation", (path, message) =>
    context.addIssue({ code: "custom", path: [...path], message }),
  ),
);

function checkSections(
  config: z.infer<typeof Sections>,
  purpose: Purpose,
  complain: (path: string[], message: string) => void,
): void {
  const { objective, rollout } = config;
  if (objective.type === "grpo" && rollout.samples_per_prompt < 2) {
    complain(
      ["rollout", "samples_per_prompt"],
      "need an integer of 2 or more. GRPO compares siblings: raise it, or learn from feedback with objective.type: sdpo",
    );
  }
  if (hasTeacher(objective) && rollout.samples_per_prompt < 2 && objective.feedback === "never") {
    complain(
      ["objective", "feedback"],
      "with one sample there is no sibling to show the teacher, and feedback: never leaves it nothing. Raise rollout.samples_per_prompt, or allow feedback",
    );
  }
  const attempts = rollout.prompts_per_step * rollout.samples_per_prompt;
  if (attempts > MOST_ATTEMPTS) {
    complain(
      ["rollout", "prompts_per_step"],
      `need at most ${MOST_ATTEMPTS} attempts in a step: with rollout.samples_per_prompt these are ${attempts}`,
    );
  }
  checkEngine(config, purpose, complain);
  if (config.policy.from_scratch && !("family" in config.tasks)) {
    complain(["policy", "from_scratch"], "need tasks.family: only a generated family can make a warm start");
  }
}

/**
 * Reads a run file. Paths in it are relative to it; `run.dir` is relative to the working directory, as are paths that
 * come from the command line. Thread count and run directory are filled in, so that the saved file says them.
 * @param overrides - `a.b=value` texts of --set
 * @throws ConfigError with a line for each mistake: file, line, column, path, reason, nearest right key
 */
export function loadRunConfig(
  file: string,
  overrides: readonly string[] = [],
  purpose: Purpose = "training",
): RunConfig {
  const schema = purpose === "training" ? RunConfig : EvaluatedRunConfig;
  const config = loadConfigFile(file, schema, overrides);
  const { run, policy } = config;
  return {
    ...config,
    run: { ...run, dir: run.dir ?? `runs/${run.name}` },
    policy: { ...policy, threads: policy.threads ?? availableParallelism() },
  };
}
