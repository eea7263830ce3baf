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
export { type HeldLock, type LockedThing, lockFile, tryLock } from "./lock-file.js";
export { fingerprint } from "./manifest.js";
export { type FloatDtype, HalfRangeError, isFloatDtype, narrowed } from "./narrow.js";
export { encodeSafetensors, readSafetensors, writeSafetensors } from "./safetensors.js";
export {
  readSafetensorsHeader,
  type SafetensorsHeader,
  type TensorLocation,
  type TensorPlace,
} from "./safetensors-header.js";
export { modelFiles, modelTensorPlaces, readModelTensors } from "./sharded.js";
export {
  type Checkpoint,
  type CheckpointFile,
  CheckpointStore,
  type CheckpointStoreOptions,
} from "./store.js";
export {
  converted,
  heldTensor,
  readElements,
  readFloat32,
  safetensorsContent,
  storedTensor,
  type TensorStream,
} from "./tensor-stream.js";
