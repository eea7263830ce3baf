export type {
  GroupRequest,
  SampledSequence,
  SamplingEngine,
  SamplingOptions,
  SamplingStats,
} from "./engine.js";
export { createEngine } from "./engine.js";
export type { RunnerShape } from "./key-value-cache.js";
export type { SamplingParameters } from "./sampling.js";
export { drawToken } from "./sampling.js";
