/** HumanEval's rows: a Python signature with its docstring, and a function `check` full of assertions. */
import { z } from "zod";
import { type Format, hasKeys, parseRow } from "./format.js";
import { RowRefused } from "./refusals.js";

const Row = z.object({
  task_id: z.union([z.string().min(1), z.int()]),
  prompt: z.string().min(1),
  canonical_solution: z.string().optional(),
  test: z.string().min(1),
  entry_point: z.string(),
});

/** A Python program that leaves before its assertions were run has not passed them. */
const GUARD = `\
import atexit as _atexit, os as _os, sys as _sys
_tested = []
def _leave():
    if not _tested:
        _sys.stdout.flush()
        if not hasattr(_sys, "last_value"):
            _sys.stderr.write("the program ended before its tests were done\\n")
            _sys.stderr.flush()
        _exit(1)
_exit = _os._exit
_os._exit = lambda status=0: _exit(status if _tested else 1)
_atexit.register(_leave)
`;

/** Python's harness around a program: whole (it replaces the function that the prompt leaves empty) or the body alone. */
export const pythonHarness = (prompt: string, tests: string): { before: string; after: string } => ({
  before: `${GUARD}${prompt}`,
  after: `${tests.trimEnd()}\n_tested.append(True)\n`,
});

/** What a completion of a function is asked for. */
export const wholeFunctionPrompt = (what: string, fence: string, start: string): string =>
  `Complete this ${what}. Answer with the whole of it in one fenced code block, beginning with the lines given.\n\n\`\`\`${fence}\n${start.trimEnd()}\n\`\`\`\n`;

/**
 * The prompt stands before the program. A body goes on where it ends; a whole function, imports and all, defines again
 * what the prompt left empty. So both ways of completing are judged alike.
 */
export const HUMAN_EVAL: Format = {
  name: "humaneval",
  about: "HumanEval: task_id, prompt, canonical_solution, test, entry_point (Python)",
  isLike: (row) => hasKeys(row, "prompt", "test", "entry_point"),
  read(row) {
    const { task_id, prompt, canonical_solution, test, entry_point } = parseRow(Row, row);
    if (!/^[A-Za-z_]\w*$/.test(entry_point)) {
      throw new RowRefused("wrong_shape", "entry_point: not the name of a Python function");
    }
    return {
      id: String(task_id),
      prompt: wholeFunctionPrompt("Python function", "python", prompt),
      tests: [{ input: "", output: "" }],
      language: "python",
      comparator: "exit",
      harness: { python: pythonHarness(prompt, `${test.trimEnd()}\n\ncheck(${entry_point})`) },
      ...(canonical_solution === undefined ? {} : { reference: { python: prompt + canonical_solution } }),
    };
  },
  visible: "all",
  refusesBlanks: false,
};
