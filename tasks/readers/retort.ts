/** Our own task files, read for what they may lack. */
import { Task } from "../../core/index.js";
import { type Format, hasKeys, parseRow } from "./format.js";

export const RETORT: Format = {
  name: "retort",
  about: "our own: id, prompt, tests",
  isLike: (row) => hasKeys(row, "id", "prompt", "tests"),
  read(row, options) {
    const task = parseRow(Task, row);
    const comparator = options.comparator ?? task.comparator;
    return { ...task, language: task.language ?? options.language, comparator };
  },
  visible: "public",
  refusesBlanks: false,
  allowsControls: true, // an MBPP program does print NUL
};
