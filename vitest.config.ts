import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Files that take longest, most first; the others wait less than they: what starts last ends last. */
const LONG = [
  "verifiers/isolation",
  "verifiers/languages-run",
  "coordinator/resume",
  "verifiers/service-life",
  "coordinator/run-ends",
  "cli/eval-policy",
  "trainer/learner-webgpu",
  "tasks/readers-run",
  "verifiers/large-inputs",
  "coordinator/repeat",
  "verifiers/service-safety",
  "verifiers/redis-failures",
  "coordinator/run-redis",
  "verifiers/single-run",
  "verifiers/perl-supervised",
  "verifiers/supervised",
  "tensor/decoder",
  "rollout/engine-webgpu",
  "coordinator/lora-run",
  "coordinator/sixteen-bits",
  "coordinator/policy-service",
  "coordinator/policy-service-weights",
  "coordinator/engine-openai",
  "cli/bad-policy",
  "trainer/layered",
  "cli/eval-endpoint",
  "cli/tasks",
  "coordinator/plan-measured",
  "cli/plan",
  "coordinator/run-webgpu",
];

/** The long files first; vitest's own order, by size or by its record of earlier runs, for the rest. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = LONG.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return at < 0 ? LONG.length : at;
    };
    return (await super.sort(files)).sort((one, other) => rank(one) - rank(other));
  }
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Three on two cores: nearly half of what the files do is to wait, for a program's time limit or for a client's.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    globalSetup: ["test/coordinator/small-policy-cleanup.ts"],
    // Real processes and a software GPU on a busy machine: a hang is told late, but nothing fails for want of a core. No test has a
    // shorter limit of its own.
    testTimeout: 240_000,
    hookTimeout: 240_000,
  },
});
