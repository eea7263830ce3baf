/** Files that stand beside a program, and its arguments: what of them may cross into a sandbox. */
import { commandArguments } from "./sandbox.js";

/** Bytes under a plain name, in the folder where the program is. */
export interface ProgramFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Each test sees a link to each file, and the supervisor's copy stands in memory beside the program. */
export const MAX_FILES = 64;
export const MAX_FILES_BYTES = 64 * 1024 * 1024;
const MAX_NAME = 100;
const MAX_ARGUMENTS = 256;
const MAX_ARGUMENT_BYTES = 64 * 1024;

/** Letters, digits and _ . + - only: no folder, no NUL, nothing that a shell or a log would read otherwise. */
const isPlainName = (name: string): boolean =>
  name.length <= MAX_NAME && /^[\w.+-]+$/.test(name) && name !== "." && name !== "..";

/**
 * What is wrong with a set of files, in words for whoever sent it; null when nothing is.
 * @param programName - the name under which the program itself is written
 */
export function filesProblem(files: readonly ProgramFile[], programName: string): string | null {
  if (files.length > MAX_FILES) return `${files.length} files beside the program: ${MAX_FILES} are the most`;
  const names = new Set<string>([programName]);
  let size = 0;
  for (const { name, bytes } of files) {
    if (!isPlainName(name))
      return `file name ${shown(name)}: a plain name without a folder is needed (letters, digits, _ . + -, at most ${MAX_NAME})`;
    if (name === programName) return `file name ${shown(name)}: the program itself has this name`;
    if (names.has(name)) return `file name ${shown(name)} is there twice`;
    names.add(name);
    size += bytes.length;
  }
  return size > MAX_FILES_BYTES
    ? `${size} bytes of files beside the program: ${MAX_FILES_BYTES} are the most`
    : null;
}

/** A name as JSON, cut: it may hold anything, and be as long as a request. */
const shown = (name: string): string => JSON.stringify(name.length > 60 ? `${name.slice(0, 60)}...` : name);

/**
 * What is wrong with a program's arguments. They are words of its argv, never text of a command: a language whose command
 * needs a shell takes none.
 */
export function argumentsProblem(args: readonly string[], execute: string): string | null {
  if (args.length === 0) return null;
  if (commandArguments(execute)[0] === "/bin/sh")
    return "this language's command needs a shell, so its programs take no arguments";
  if (args.length > MAX_ARGUMENTS) return `${args.length} arguments: ${MAX_ARGUMENTS} are the most`;
  if (args.some((word) => word.includes("\0"))) return "an argument holds a NUL byte";
  const size = args.reduce((sum, word) => sum + Buffer.byteLength(word), 0);
  return size > MAX_ARGUMENT_BYTES ? `${size} bytes of arguments: ${MAX_ARGUMENT_BYTES} are the most` : null;
}
