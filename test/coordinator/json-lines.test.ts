import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { linesOf, rangesOf } from "../../coordinator/json-lines.js";

const root = mkdtempSync(join(tmpdir(), "json-lines-"));
afterAll(() => rmSync(root, { recursive: true }));
const fileOf = (text: string): string => {
  const file = join(root, "lines");
  writeFileSync(file, text);
  return file;
};

test.each([
  { name: "an empty file has no line", text: "", want: [] },
  { name: "empty lines are lines", text: "\n\na\n", want: ["", "", "a"] },
  {
    name: "a line may be longer than the pieces that are read, and end on their edge",
    text: `${"é".repeat(1 << 20)}\n${"b".repeat((1 << 20) - 1)}\nc\n`,
    want: ["é".repeat(1 << 20), "b".repeat((1 << 20) - 1), "c"],
  },
])("$name", ({ text, want }) => {
  const lines = [...linesOf(fileOf(text))];
  expect(lines.map((line) => line.text)).toEqual(want);
  expect(lines.every(({ isWhole }) => isWhole)).toBe(true);
});

test("text after the last newline is a line that is not whole", () => {
  expect([...linesOf(fileOf("a\nbc"))]).toEqual([
    { text: "a", start: 0, end: 2, isWhole: true },
    { text: "bc", start: 2, end: 4, isWhole: false },
  ]);
});

test("parts of a file are copied byte by byte, in the order asked for", () => {
  const file = fileOf("é1\n22\n333\n");
  const lines = [...linesOf(file)].reverse();
  expect(Buffer.concat([...rangesOf(file, lines)]).toString()).toBe("333\n22\né1\n");
});
