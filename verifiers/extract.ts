/** Which part of a completion is the program. */

const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/;

/**
 * fenced: the body of the last closed fenced block, by CommonMark's rules (a fence closes with as many marks as it opened
 * with, or more). whole: all of it.
 * @returns null when there is no program, or nothing but white space in it
 */
export function extractProgram(completion: string, mode: "fenced" | "whole"): string | null {
  const program = mode === "whole" ? completion : lastFencedBlock(completion);
  return program === null || program.trim() === "" ? null : program;
}

function lastFencedBlock(text: string): string | null {
  let last: string | null = null;
  let open: { marks: string; lines: string[] } | null = null;
  for (const line of text.split(/\r?\n/)) {
    const [, marks, rest] = FENCE.exec(line) ?? [];
    if (open === null) {
      // A back-tick in the info string means inline code, not a fence.
      if (marks !== undefined && !(marks.startsWith("`") && rest!.includes("`"))) open = { marks, lines: [] };
    } else if (marks?.startsWith(open.marks) && rest!.trim() === "") {
      last = open.lines.map((body) => `${body}\n`).join("");
      open = null;
    } else open.lines.push(line);
  }
  return last;
}
