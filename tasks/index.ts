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
export { ioPrompt } from "./readers/agnostics.js";
export type { DroppedTest, Visibility } from "./readers/checked-task.js";
export { checkedTask, VISIBILITIES } from "./readers/checked-task.js";
export type { Conversion, ConvertedRow, RefusedRow } from "./readers/convert.js";
export { convertFiles } from "./readers/convert.js";
export type { Format } from "./readers/format.js";
export { FORMAT_NAMES, formatNamed } from "./readers/formats.js";
export type { FunctionProblem } from "./readers/function-problems.js";
export { functionProblem } from "./readers/function-problems.js";
export type { Reason } from "./readers/refusals.js";
export { excerpt, REASONS, RowRefused } from "./readers/refusals.js";
export { sourceRows } from "./readers/source-rows.js";
export { readTasks, tasksOf } from "./task-file.js";
