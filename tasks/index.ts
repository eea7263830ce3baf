export type {
  Family,
  ProgramInputs,
  RunLua,
  RunPrograms,
  Senses,
  TokenizerFiles,
} from "./lua-words/index.js";
export { buildTokenizer, createBatchRunner, prepareFamily } from "./lua-words/index.js";
export { readTasks, tasksOf } from "./task-file.js";
