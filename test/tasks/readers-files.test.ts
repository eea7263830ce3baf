import { appendFileSync, openSync, rmSync, writeSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { ConfigError } from "../../core/index.js";
import { sourceRows } from "../../tasks/readers/source-rows.js";
import { ArraySplitter, LineSplitter, type Splitter } from "../../tasks/readers/splitters.js";
import { convert, fileOf, jsonl, refusals } from "./rows.js";

const task = (id: string, extra: object = {}) => ({
  id,
  prompt: `Print ${id}.`,
  tests: [{ input: "", output: `${id}\n` }],
  ...extra,
});
const ids = async (content: string | Uint8Array): Promise<string[]> =>
  (await convert(content)).map((row) => ("task" in row ? row.task.id : `${row.at} ${row.reason}`));

test.each([
  { name: "lines", content: jsonl(task("a"), task("b")) },
  {
    name: "Windows line ends, a byte order mark, blank lines, no last newline",
    content: `\ufeff\r\n${JSON.stringify(task("a"))}\r\n\r\n${JSON.stringify(task("b"))}`,
  },
  {
    name: "one array, on as many lines as it likes",
    content: JSON.stringify([task("a"), task("b")], null, 2),
  },
  {
    name: "an array after a byte order mark",
    content: `\ufeff [${JSON.stringify(task("a"))} , ${JSON.stringify(task("b"))}]\r\n`,
  },
  { name: "gzipped lines", content: gzipSync(jsonl(task("a"), task("b"))) },
  {
    name: "two gzip files, one after the other",
    content: Buffer.concat([gzipSync(jsonl(task("a"))), gzipSync(jsonl(task("b")))]),
  },
  { name: "a gzipped array", content: gzipSync(JSON.stringify([task("a"), task("b")])) },
])("rows are read from $name", async ({ content }) => {
  expect(await ids(content)).toEqual(["a", "b"]);
});

test("bad lines are told by their place, and the rows around them are kept", async () => {
  const good = (id: string) => Buffer.from(jsonl(task(id)));
  const content = Buffer.concat([
    good("a"),
    Buffer.from('{"id": "cut\n'),
    Buffer.from(`{"id":"x","prompt":"\xff\xfe","tests":[]}\n`, "latin1"),
    Buffer.from('{"id":"nul\u0000","prompt":"p","tests":[]}\n'),
    Buffer.from("[1]\n7\nnull\n"),
    good("b"),
  ]);
  expect(await ids(content)).toEqual([
    "a",
    "in:2 not_json",
    "in:3 not_utf8",
    "in:4 not_json",
    "in:5 wrong_shape",
    "in:6 wrong_shape",
    "in:7 wrong_shape",
    "b",
  ]);
});

test("in an array the place is the line where the element begins", async () => {
  expect(await ids(`[\n${JSON.stringify(task("a"), null, 1)},\n\n{"id": "x",\n"prompt": 1}\n]`)).toEqual([
    "a",
    "in:13 wrong_shape",
  ]);
});

const flipped = (bytes: Buffer, at: number): Buffer =>
  Buffer.from(bytes.map((byte, index) => (index === at ? byte ^ 255 : byte)));

test.each([
  {
    name: "a gzip cut short",
    content: gzipSync(jsonl(...Array.from({ length: 2000 }, (_, i) => task(`t${i}`)))).subarray(0, -100),
    says: /^in:\d+: need a whole gzip file \(unexpected end of file\)/,
  },
  {
    name: "a gzip with a flipped bit",
    content: flipped(gzipSync(jsonl(task("a"), task("b"))), 40),
    says: /^in:\d+: need a whole gzip file/,
  },
  {
    name: "an array without its end",
    content: `[${JSON.stringify(task("a"))},`,
    says: /^in:1: need one JSON array, or JSONL \(the file ends within its array\)/,
  },
  {
    name: "something after an array",
    content: `[${JSON.stringify(task("a"))}]\n{}`,
    says: /^in:2: need one JSON array, or JSONL \(something stands after the end/,
  },
  {
    name: "Parquet",
    content: "PAR1\u0015\u0004",
    says: /^in: need JSON or JSONL; this is Parquet\. Convert it first: python3/,
  },
  {
    name: "zstd",
    content: Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0]),
    says: /this is zstd\. Unpack it first: zstd -d/,
  },
  { name: "gzipped Parquet", content: gzipSync("PAR1\u0015\u0004"), says: /this is Parquet/ },
  {
    name: "UTF-16",
    content: Buffer.from(`\ufeff${jsonl(task("a"))}`, "utf16le"),
    says: /this is UTF-16\. Save it as UTF-8/,
  },
])("a file that is $name is refused whole", async ({ content, says }) => {
  const error = await convert(content).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as Error).message).toMatch(says);
});

test("a missing file and a folder are refused by name", async () => {
  const rows = (file: string) => sourceRows(file)[Symbol.asyncIterator]().next();
  await expect(rows("/none.jsonl")).rejects.toThrow(
    /^\/none\.jsonl: need a file that can be read \(ENOENT\)/,
  );
  await expect(rows("/tmp")).rejects.toThrow(/^\/tmp: need a file that can be read \(EISDIR\)/);
});

/** Rows of a text, however it is cut into chunks. */
function split(splitter: Splitter, bytes: Buffer, chunk: number): string[] {
  const rows = [];
  for (let at = 0; at < bytes.length; at += chunk)
    rows.push(...splitter.push(bytes.subarray(at, at + chunk)));
  rows.push(...splitter.end());
  return rows.map(({ line, bytes: row }) => `${line} ${row === null ? "too long" : row.toString("utf8")}`);
}

test.each([1, 2, 3, 7, 1000])("rows are the same in chunks of %i bytes", (chunk) => {
  const lines = Buffer.from('{"é":1}\n\n{"b":"]}"}\n{"c":3}');
  expect(split(new LineSplitter(), lines, chunk)).toEqual(['1 {"é":1}', "2 ", '3 {"b":"]}"}', '4 {"c":3}']);
  const array = Buffer.from('[{"é":[1,{}]},\n "a]\\",\\\\", 7 ,\n[2]]\n');
  expect(split(new ArraySplitter(), array, chunk)).toEqual([
    '1 {"é":[1,{}]}',
    '2 "a]\\",\\\\"',
    "2 7 ",
    "3 [2]",
  ]);
  expect(split(new ArraySplitter(), Buffer.from(" []"), chunk)).toEqual([]);
});

test.each([1, 5, 1000])(
  "a row that is too long is not held, and those around it are read, in chunks of %i",
  (chunk) => {
    expect(split(new LineSplitter(4), Buffer.from("12345\n1234\n123456"), chunk)).toEqual([
      "1 too long",
      "2 1234",
      "3 too long",
    ]);
    expect(split(new ArraySplitter(4), Buffer.from("[12345,1234]"), chunk)).toEqual(["1 too long", "1 1234"]);
  },
);

test("a row of 200 MB is read; one of 600 MB is refused with its line, and the next one is read", async () => {
  const file = fileOf(jsonl(task("a")));
  const [head, tail] = jsonl(task("big", { tests: [{ input: "#", output: "1" }] })).split("#");
  const million = Buffer.alloc(1_000_000, "7");
  for (const megabytes of [200, 600]) {
    const descriptor = openSync(file, "a");
    writeSync(descriptor, head!);
    for (let i = 0; i < megabytes; i++) writeSync(descriptor, million);
    writeSync(descriptor, tail!);
  }
  appendFileSync(file, jsonl(task("z")));
  const seen: string[] = [];
  for await (const row of sourceRows(file)) {
    seen.push(
      "text" in row
        ? `${row.at.split(":").pop()} ${row.text.length}`
        : `${row.at.split(":").pop()} ${row.reason}`,
    );
  }
  rmSync(file);
  expect(seen).toEqual(["1 68", expect.stringMatching(/^2 2000000\d\d$/), "3 too_large", "4 68"]);
});

test("tests of 50 MB become a task", async () => {
  const input = "1 2 3 4 5\n".repeat(5_000_000);
  const rows = await convert(jsonl(task("huge", { tests: [{ input, output: "1\n" }] })));
  expect(refusals(rows)).toEqual([]);
  expect("task" in rows[0]! && rows[0].task.tests[0]!.input.length).toBe(50_000_000);
});
