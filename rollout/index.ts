export type {
  Completion,
  CompletionHandlers,
  CompletionRequest,
  GroupRequest,
  SampledSequence,
  SamplingOptions,
  SamplingStats,
  StartedRequest,
} from "./completion.js";
export { createEngine } from "./engine.js";
export type { RunnerShape, SamplingProvider } from "./key-value-cache.js";
export type { EngineOptions, SamplingEngine } from "./lane.js";
export type { OpenaiEngine } from "./openai/engine-config.js";
export { createRemoteSampler, type RemoteSampler } from "./openai/server.js";
export type { WeightFolder } from "./openai/weight-push.js";
export {
  answerRequests,
  createRemoteRequests,
  type RemoteCall,
  type RemoteEvent,
  type RemoteRequests,
} from "./remote-requests.js";
export type { Alternative, SamplingParameters, StreamedToken } from "./sampling.js";
export { drawToken } from "./sampling.js";
export { type SamplingCost, samplingCost } from "./sampling-cost.js";
export { MOST_PACKED } from "./step-graphs.js";
export { errorOf, failureOf, isOurs, type ThreadFailure } from "./thread-failure.js";
