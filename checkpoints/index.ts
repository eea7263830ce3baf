export {
  type Content,
  openReplacement,
  type Replacement,
  replaceFile,
  syncFolder,
  writeDurably,
} from "./atomic-file.js";
export {
  bytesPerElement,
  DTYPES,
  type Dtype,
  elementCount,
  float32Values,
  type NamedTensor,
  type TensorData,
} from "./dtypes.js";
export { fingerprint } from "./manifest.js";
export {
  encodeSafetensors,
  readSafetensors,
  readSafetensorsHeader,
  type SafetensorsHeader,
  type TensorLocation,
  writeSafetensors,
} from "./safetensors.js";
export { readModelTensors } from "./sharded.js";
export {
  type Checkpoint,
  type CheckpointFile,
  CheckpointStore,
  type CheckpointStoreOptions,
} from "./store.js";
