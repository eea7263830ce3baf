export { createEngine } from "./engine.js";
export type { RunnerShape } from "./key-value-cache.js";
export type { EngineOptions, SamplingEngine } from "./lane.js";
export type { SamplingParameters } from "./sampling.js";
export { drawToken } from "./sampling.js";
export type { GroupRequest, SampledSequence, SamplingOptions, SamplingStats } from "./slot-loop.js";
