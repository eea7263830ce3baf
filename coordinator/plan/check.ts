/** Before a run: does it fit? */
import { ConfigError } from "../../core/index.js";
import { parameterCount } from "../../policy/index.js";
import { hasBuffersOf, providerState, tooSmallBuffers } from "../../tensor/index.js";
import type { RunConfig } from "../config.js";
import { adviceFor } from "./advice.js";
import { bytesText } from "./items.js";
import { type Plan, planRun } from "./plan.js";
import { plannedProvider } from "./provider.js";
import { planSubject } from "./subject.js";
import { planLine } from "./table.js";

/** A smaller policy fits wherever Node does, and planning it would take a second of a run of one minute. */
const LEAST_PLANNED = 16e6;

/**
 * Plans a run that is about to start.
 * @param memoryBytes - default: what this machine, or the limit of its container, has
 * @returns a line to print; null for a policy too small to be planned
 * @throws ConfigError when it cannot fit, with what to change and what each change saves; or where the GPU has no buffer that
 * is large enough
 */
export async function checkPlan(config: RunConfig, memoryBytes?: number): Promise<string | null> {
  if (config.policy.from_scratch) return null;
  if (parameterCount(planSubject(config).decoder) < LEAST_PLANNED) return null;
  const provider = await plannedProvider(config);
  const options = { provider, ...(memoryBytes === undefined ? {} : { memoryBytes }) };
  const plan = await planRun(config, options);
  await checkBuffers(plan);
  if (plan.fits !== false) return planLine(plan);
  const advice = await adviceFor(config, plan, options);
  const changes = advice.map(
    ({ set, peakBytes, savedBytes }) =>
      `  --set ${set}  saves ${bytesText(savedBytes)}, leaves ${bytesText(peakBytes)}`,
  );
  throw new ConfigError({
    at: "memory",
    got: bytesText(plan.memoryBytes ?? 0),
    need: `about ${bytesText(plan.peakBytes)} for this run`,
    fix: [
      ...(changes.length > 0
        ? ["What would help, the largest effect first:", ...changes]
        : ["No key of the run helps much: it takes more memory, or a smaller policy."]),
      "retort plan shows where it goes; --no-plan starts the run all the same.",
    ].join("\n"),
  });
}

/** Tried out, where webgpu is to hold the largest tensor: it would be told after minutes of reading weights. */
async function checkBuffers({ provider, sampler, largestBytes }: Plan): Promise<void> {
  const isOnWebgpu = provider === "webgpu" || (provider === "cpu" && sampler === "webgpu");
  if (!isOnWebgpu || !(await providerState("webgpu")).works) return; // what is not here is told by what opens it
  if (!(await hasBuffersOf(largestBytes))) throw tooSmallBuffers(bytesText(largestBytes));
}
