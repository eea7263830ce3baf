export type { Family, ProgramInputs, RunLua, RunPrograms, Senses } from "./lua-words/index.js";
export { createBatchRunner, prepareFamily } from "./lua-words/index.js";
export { readTasks, tasksOf } from "./task-file.js";
