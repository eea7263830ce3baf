export type { ProgramInputs, RunLua, RunPrograms } from "./batch.js";
export { createBatchRunner } from "./batch.js";
export type {
  ExampleKind,
  WarmStartExample,
  WarmStartRequest,
  WriteFeedback,
  WriteTeacherPrompt,
} from "./demonstrations.js";
export { warmStartExamples } from "./demonstrations.js";
export type { Family } from "./family.js";
export { prepareFamily } from "./family.js";
export type { Senses } from "./senses.js";
export type { TokenizerFiles } from "./tokenizer.js";
export { buildTokenizer } from "./tokenizer.js";
