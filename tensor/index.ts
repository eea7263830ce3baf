export { type CompileOptions, compile, type Provider, type TracedFunction } from "./compile.js";
export { type LossWithExtras, type TensorMap, valueAndGradients } from "./differentiate.js";
export { useTensorflowBackend } from "./eager.js";
export { type NodeProfile, readProfile } from "./profile.js";
export type { CompiledFunction, DeviceTensor, HostArray, TensorSpec, Value } from "./values.js";
