export type {
  ExampleKind,
  Family,
  ProgramInputs,
  RunLua,
  RunPrograms,
  Senses,
  TokenizerFiles,
  WarmStartExample,
  WarmStartRequest,
  WriteFeedback,
  WriteTeacherPrompt,
} from "./lua-words/index.js";
export { buildTokenizer, createBatchRunner, prepareFamily, warmStartExamples } from "./lua-words/index.js";
export type { DroppedTest, Visibility } from "./readers/checked-task.js";
export { VISIBILITIES } from "./readers/checked-task.js";
export type { Conversion, ConvertedRow, RefusedRow } from "./readers/convert.js";
export { convertFiles } from "./readers/convert.js";
export type { Format } from "./readers/format.js";
export { FORMAT_NAMES, formatNamed } from "./readers/formats.js";
export type { Reason } from "./readers/refusals.js";
export { REASONS } from "./readers/refusals.js";
export { readTasks, tasksOf } from "./task-file.js";
