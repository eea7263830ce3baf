export { type CompileOptions, compile, type Provider } from "./compile.js";
export { availableProviders, softwareVulkanEnvironment } from "./devices.js";
export {
  type LossWithExtras,
  stopGradient,
  type TensorMap,
  type TracedFunction,
  valueAndGradients,
} from "./differentiate.js";
export { useTensorflowBackend } from "./eager.js";
export { type NodeProfile, readProfile } from "./profile.js";
export type { CompiledFunction, DeviceTensor, HostArray, TensorSpec, Value } from "./values.js";
