import { InfrastructureError, type Task } from "../core/index.js";
import { prepareFamily, type RunLua, readTasks } from "../tasks/index.js";
import { type LocalPool, runProgram } from "../verifiers/index.js";
import type { Runner } from "./open-pool.js";
import type { TasksSection } from "./tasks-section.js";

/** Tasks to train on, and the sets that a run is measured by. */
export interface TaskSets {
  readonly train: readonly Task[];
  /** `heldout`, and `probe` for forgetting where there is one. */
  readonly evaluation: Readonly<Record<string, readonly Task[]>>;
}

/** Reads or generates a run's tasks. @throws ConfigError naming file, line and reason for a bad task file */
export async function openTasks(section: TasksSection, seed: number, runner: Runner): Promise<TaskSets> {
  if ("family" in section) {
    const family = await prepareFamily({ seed, runLua: luaRunner(await runner.open()) });
    const heldout = section.measure === "tuning" ? family.tuning : family.heldout;
    return { train: family.rl, evaluation: { heldout, probe: family.probe } };
  }
  const optional = (name: string, path: string | undefined): [string, readonly Task[]][] =>
    path === undefined ? [] : [[name, readTasks(path)]];
  return {
    train: readTasks(section.train),
    evaluation: Object.fromEntries([
      ...optional("heldout", section.heldout),
      ...optional("probe", section.probe),
    ]),
  };
}

/** Thousands of small runs share a process, so it needs more than a test's usual limits. */
const BATCH_LIMITS = { time_s: 60, memory_mb: 512, output_kb: 65_536 };

/** Runs Lua programs of our own making in the sandbox. */
export const luaRunner =
  (verifier: LocalPool): RunLua =>
  (programs) =>
    Promise.all(
      programs.map(async ({ program, inputs }) => {
        const outcomes = await runProgram(verifier, {
          language: "lua",
          program,
          inputs,
          limits: BATCH_LIMITS,
        });
        const failed = outcomes.find(({ status }) => status !== "accepted");
        if (failed !== undefined) {
          throw new InfrastructureError(
            `a Lua program of ours ended with ${failed.status}: ${failed.stderr}`,
          );
        }
        return outcomes.map(({ stdout }) => stdout);
      }),
    );
