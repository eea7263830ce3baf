export { adapterFiles, isAdapterFolder, readAdapter, readAdapterConfig } from "./adapter-folder.js";
export { writeChecksums } from "./checksums.js";
export type { DecoderConfig, ModelType } from "./config.js";
export { huggingFaceConfig, parseDecoderConfig, readDecoderConfig } from "./config.js";
export { decodeStep, decodingSpecs, decodingWeights } from "./decode-step.js";
export type { Attention, KeyValue, PositionTables, Weights } from "./decoder.js";
export {
  causalAttention,
  decoderHidden,
  decoderLayer,
  decoderLogits,
  embed,
  lastNorm,
  positionTableShapes,
  positionTables,
  projectLogits,
  rmsNorm,
} from "./decoder.js";
export { nonFinitePolicy } from "./finite-weights.js";
export type { HostWeights, PolicyFolder } from "./folder.js";
export { namedTensors, policyFiles, policyFolder, readPolicy, readWeights, writePolicy } from "./folder.js";
export {
  adaptedProjections,
  adapterShapes,
  initialAdapter,
  loraA,
  loraB,
  mergedWeights,
} from "./lora.js";
export { LoraConfig } from "./lora-config.js";
export { ropeTables } from "./rope.js";
export { scoreIds } from "./score.js";
export type { ChatMessage, PolicyTokenizer } from "./tokenizer.js";
export { createTokenizer, readTokenizer } from "./tokenizer.js";
export { weightSpecs } from "./weight-specs.js";
export type { Initialisation } from "./weights.js";
export { initialWeights, parameterCount, parameterShapes } from "./weights.js";
