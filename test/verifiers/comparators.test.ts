import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { COMPARATORS, ComparatorName, packageRoot } from "../../core/index.js";
import { sameOutput } from "../../verifiers/index.js";

const bytes = (text: string) => Buffer.from(text, "utf8");

const TABLE: readonly (readonly [ComparatorName, expected: string, actual: string, same: boolean])[] = [
  ["tokens", "1 2\n3\n", "1  2 3", true],
  ["tokens", "1 2", "12", false],
  ["tokens", "a", "A", false],
  ["tokens", "", " \n", true],
  ["tokens", "a b", "a b c", false],
  ["tokens", "240 -3", "240.0 -3.00", true],
  ["tokens", "240", "240.01", false],
  ["tokens", "240.0", "240", false],
  ["tokens", "2.5", "2.50", false],
  ["tokens", "1", "1.0.0", false],
  ["tokens", "x", "x.0", false],
  ["exact", "a\n", "a\n", true],
  ["exact", "a\n", "a", false],
  ["trailing", "a b\n", "a b \r\n\n", true],
  ["trailing", "a \nb", "a\nb", false],
  ["trailing", " a", "a", false],
  ["lines", "a \nb\n\n", "a\nb\r\n", true],
  ["lines", "a\n\nb", "a\nb", false],
  ["lines", "a b", "a  b", false],
  ["unordered", "a\nb\nb\n", "b\na\nb", true],
  ["unordered", "a\nb", "a\na", false],
  ["float", "0.3333333333 1e9", "0.3333335 1000000001", true],
  ["float", "1.0", "1.00001", false],
  ["float", "1", "1.0 2.0", false],
  ["float", "YES 0.5", "YES .50", true],
  ["float", "nan", "0", false],
  ["float", "1000000", "1000000.9", true],
  ["float", "0x10", "16", false],
  ["sandboxfusion", "1e3\n2_0", "1000.0\n20", true],
  ["sandboxfusion", "100000", "100000.9", true],
  ["sandboxfusion", "100000", "100001", false],
  ["sandboxfusion", "0", "0.0000001", false],
  ["sandboxfusion", "0.0", "-0", true],
  ["sandboxfusion", "\n \n a\n\nb\u2003\n\n", "A\n\nB", true],
  ["sandboxfusion", "a\n\n\nb", "a\n\nb", false],
  ["sandboxfusion", "", " \n\n", true],
  ["sandboxfusion", "", "x", false],
  ["lines", "a\n\n", "a", true],
  ["lines", "\na", "a", false],
  ["lines", "a", "a\nb", false],
  ["lines", "a\nb", "a", false],
  ["unordered", "a", "a\na", false],
  ["unordered", "a\na", "a", false],
  ["unordered", "b \n\na", "\na\t\nb", true],
  ["trailing", "", "\n", true],
  ["tokens", `${"9".repeat(100)}`, `${"9".repeat(100)}.0`, true],
  ["tokens", "a b c", "a b", false],
  ["sandboxfusion", "inf", "infinity", false],
  ["sandboxfusion", "1e400", "1e401", false],
  ["sandboxfusion", "ÉA", "éa\u00a0", true],
  ["sandboxfusion", "a\n\nb", "a\nb", false],
  ["exit", "anything", "else", true],
];

describe("comparators", () => {
  test.each(TABLE)("%s: %j against %j is %s", (comparator, expected, actual, same) => {
    expect(sameOutput(comparator, expected, bytes(actual))).toBe(same);
  });

  describe("the table of docs/comparators.md", () => {
    const docs = readFileSync(join(packageRoot, "docs", "comparators.md"), "utf8").split("\n");
    const cells = (line: string) => line.split(" | ").map((cell) => cell.replace(/^\| | \|$|`/g, ""));
    const head = docs.findIndex((line) => line.startsWith("| difference |"));
    const names = cells(docs[head]!)
      .slice(3)
      .map((name) => ComparatorName.parse(name));
    const rows = docs.slice(head + 2, docs.indexOf("", head)).map(cells);

    test("has a column for each comparator that looks at the output", () => {
      expect(new Set([...names, "exit"])).toEqual(new Set(COMPARATORS));
      expect(rows.length).toBeGreaterThanOrEqual(11);
    });

    test.each(rows)("%s: %s against %s", (_, expected, actual, ...verdicts) => {
      const text = (cell: string | undefined): string => JSON.parse(cell!);
      const judged = names.map((name) => sameOutput(name, text(expected), bytes(text(actual))));
      expect(judged.map((same) => (same ? "yes" : "no"))).toEqual(verdicts);
    });

    /** Verdicts of other judges on some of these rows, taken from their sources; "yes" and "no" in the table's order. */
    test.each([
      ["trailing", "Agnostics", "yes no no no no no no no no no no no"],
      ["lines", "Judge0", "yes yes no no no no no no no no no yes"],
      ["sandboxfusion", "SandboxFusion", "yes yes yes yes yes yes yes no no no no yes"],
    ] as const)("%s decides as %s", (name, _, verdicts) => {
      const others = ["words on other lines", "other order of lines", "a NUL byte at the end"];
      const column = 3 + names.indexOf(name);
      const ours = rows.filter(([difference]) => !others.includes(difference!)).map((row) => row[column]);
      expect(ours.join(" ")).toBe(verdicts);
    });
  });

  test("every comparator accepts what it expects", () => {
    fc.assert(
      fc.property(fc.constantFrom(...COMPARATORS), fc.string({ unit: "binary" }), (comparator, text) => {
        expect(sameOutput(comparator, text, bytes(text))).toBe(true);
      }),
    );
  });

  test("bytes that are not UTF-8 are compared as bytes", () => {
    expect(sameOutput("tokens", "\ufffd", Buffer.from([0xff]))).toBe(false);
    expect(sameOutput("exact", "å", Buffer.from([0xc3, 0xa5]))).toBe(true);
    expect(sameOutput("exact", "å", Buffer.from([0xe5]))).toBe(false);
  });

  test("a no-break space is not white space", () => {
    expect(sameOutput("tokens", "a b", bytes("a\u00a0b"))).toBe(false);
  });

  test("a megabyte of one number is compared like any other", () => {
    const long = "1_1".repeat(400_000);
    expect(sameOutput("sandboxfusion", long, bytes(`${long}1`))).toBe(false);
    expect(sameOutput("sandboxfusion", `0.${"0".repeat(1 << 20)}`, bytes("0"))).toBe(true);
  });

  /** The same rules in the shortest words, over whole texts in memory. */
  const SIMPLE: Partial<Record<ComparatorName, (text: string) => unknown>> = {
    tokens: (text) => text.split(/[ \t\n\r\v\f]+/).filter(Boolean),
    exact: (text) => text,
    trailing: (text) => text.replace(/[ \t\n\r\v\f]+$/, ""),
    lines: (text) =>
      text
        .replace(/[ \t\n\r\v\f]+$/, "")
        .split("\n")
        .map((line) => line.replace(/[ \t\r\v\f]+$/, "")),
    unordered: (text) => (SIMPLE.lines!(text) as string[]).sort(),
  };
  test.each(Object.entries(SIMPLE))("%s agrees with its rule in short", (name, simple) => {
    const texts = fc
      .array(fc.constantFrom("a", "b", " ", "\n", "\t", "\r", "é", "\u00a0"))
      .map((parts) => parts.join(""));
    fc.assert(
      fc.property(texts, texts, (expected, actual) => {
        const same = JSON.stringify(simple(expected)) === JSON.stringify(simple(actual));
        expect(sameOutput(name as ComparatorName, expected, bytes(actual))).toBe(same);
      }),
      { numRuns: 2000 },
    );
  });

  test("a megabyte of blanks is compared in less than a second of a core", () => {
    const start = process.cpuUsage();
    expect(sameOutput("lines", "a", bytes(`a${" ".repeat(1 << 20)}b`))).toBe(false);
    expect(process.cpuUsage(start).user / 1000).toBeLessThan(1000);
  });
});
