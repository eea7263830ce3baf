export { adapterFiles, isAdapterFolder, readAdapter, readAdapterConfig } from "./adapter-folder.js";
export { type CacheEntry, cacheEntries, removeCacheEntry } from "./cache-entries.js";
export { cacheFolder } from "./cache-folder.js";
export { writeChecksums } from "./checksums.js";
export { chunkLogits, decodeChunk } from "./chunk-step.js";
export type { DecoderConfig, ModelType } from "./config.js";
export { huggingFaceConfig, parseDecoderConfig, readDecoderConfig } from "./config.js";
export { decodeStep, decodingEnds, decodingLayer, decodingSpecs, decodingWeights } from "./decode-step.js";
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
export type { WideningProgress } from "./derived-weights.js";
export { policyDigest } from "./digest.js";
export { exportPolicy } from "./export.js";
export { NonFinitePolicyError, nonFinitePolicy } from "./finite-weights.js";
export type { OpenedPolicy, PolicyFolder, WeightSource } from "./folder.js";
export { loadWeights, openPolicy, openWeights, policyFolder, readPolicy } from "./folder.js";
export { int8Bytes, int8Weights } from "./int8-weights.js";
export { type LastingWeights, lastingWeights } from "./lasting-weights.js";
export {
  adaptedProjections,
  adapterShapes,
  initialAdapter,
  loraA,
  loraB,
  mergedWeights,
} from "./lora.js";
export { LoraConfig } from "./lora-config.js";
export { mappedWeights } from "./mapped-weights.js";
export { ropeTables } from "./rope.js";
export { heldWeights, namedTensors, policyFiles, savedTypes, writePolicy } from "./save-folder.js";
export { scoreIds } from "./score.js";
export type { WeightLayout } from "./step-products.js";
export { STORED_TYPES, type StoredType } from "./stored-type.js";
export type { ChatMessage, PolicyTokenizer } from "./tokenizer.js";
export { createTokenizer, readTokenizer } from "./tokenizer.js";
export type { UnpaddedRows } from "./unpadded-rows.js";
export {
  type HostWeights,
  hostWeights,
  readWeights,
  type WeightPlaces,
  weightPlaces,
} from "./weight-places.js";
export { weightSpecs } from "./weight-specs.js";
export type { Initialisation } from "./weights.js";
export { initialWeights, isLargePolicy, parameterCount, parameterShapes } from "./weights.js";
