import "./no-telemetry.js";

export { ConfigError, InfrastructureError } from "./errors.js";
export type { FinishReason, JudgedBy, Rollout, Sample, Status, TestOutcome, Verdict } from "./flow.js";
export {
  Checker,
  COMPARATORS,
  Comparator,
  ComparatorName,
  comparatorName,
  IoTest,
  Limits,
  STATUSES,
  Task,
} from "./flow.js";
export { makeFolder } from "./folders.js";
export { editDistance, nearest } from "./nearest.js";
export { builtModule, packageRoot } from "./paths.js";
export type { Random } from "./random.js";
export { hash32, philox, randomStream, uniformAt } from "./random.js";
export { type RequestSignal, requestSignal } from "./request-signal.js";
