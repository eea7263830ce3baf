import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Files that take longest, most first; the others wait less than they: what starts last ends last. */
const LONG = [
  "coordinator/plan-measured",
  "verifiers/isolation",
  "coordinator/resume",
  "verifiers/redis-failures",
  "coordinator/run-webgpu",
  "tasks/readers-run",
  "cli/plan",
  "coordinator/run-ends",
  "verifiers/service-life",
  "verifiers/languages-run",
  "coordinator/engine-openai",
  "tensor/decoder",
  "cli/eval-policy",
  "verifiers/service-apis",
  "coordinator/rewrite",
  "verifiers/perl-supervised",
  "verifiers/single-run",
  "verifiers/supervised",
  "rollout/engine-webgpu",
  "cli/tasks",
  "cli/devices",
  "verifiers/languages-own",
  "trainer/layered",
  "trainer/learner-webgpu",
  "trainer/layered-memory",
  "coordinator/repeat",
  "verifiers/large-inputs",
  "cli/usage",
  "coordinator/lora-run",
  "cli/eval-endpoint",
  "cli/eval",
  "verifiers/pool",
  "cli/eval-redis",
  "verifiers/service-safety",
  "cli/bad-policy",
  "verifiers/checker",
  "coordinator/shared-base",
  "coordinator/run-redis",
  "coordinator/sixteen-bits",
  "verifiers/redis-pool",
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
    // Four on two cores: half of what the files do is to wait, for a program's time limit or for a client's. With three, an eighth
    // of both cores stood idle.
    maxWorkers: 4,
    sequence: { sequencer: LongestFirst },
    globalSetup: ["test/coordinator/small-policy-cleanup.ts"],
    // Real processes and a software GPU on a busy machine: a hang is told late, but nothing fails for want of a core. No test has a
    // shorter limit of its own.
    testTimeout: 240_000,
    hookTimeout: 240_000,
  },
});
