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
export { readTasks, tasksOf } from "./task-file.js";
