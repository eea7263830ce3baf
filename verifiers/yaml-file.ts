/** Reads a YAML text against a zod schema; a mistake is told with file, line, path and the nearest right key. */
import { LineCounter, parseDocument, type YAMLError } from "yaml";
import { z } from "zod";
import { ConfigError, nearest } from "../core/index.js";

type KeyPath = readonly PropertyKey[];
type Issue = z.core.$ZodIssue;

/** @param source - the file's name, for messages. @throws ConfigError that names the first mistake */
export function parseYaml<T>(text: string, source: string, schema: z.ZodType<T>): T {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken: YAMLError | undefined = document.errors[0];
  if (broken) {
    const { line, col } = lines.linePos(broken.pos[0]);
    throw new ConfigError({ at: `${source}:${line}:${col}`, need: "valid YAML", fix: broken.message });
  }
  const parsed = schema.safeParse(document.toJS());
  if (parsed.success) return parsed.data;
  // A mistyped key is also a missing one; the typing error is what the reader can see.
  const issues = parsed.error.issues.map(innermost);
  const issue = issues.find(({ code }) => code === "unrecognized_keys") ?? issues[0]!;
  const unknown = issue.code === "unrecognized_keys" ? issue.keys[0] : undefined;
  const path = unknown === undefined ? issue.path : [...issue.path, unknown];
  throw new ConfigError({
    at: `${source}:${lineOf(document, lines, path)}: ${path.join(".") || "the file"}`,
    need: unknown === undefined ? need(issue) : "a known key",
    ...(unknown === undefined ? {} : { fix: suggestion(unknown, keysAt(schema, issue.path)) }),
  });
}

/** Of a union's branches the one that got furthest is the one that was meant. */
function innermost(issue: Issue): Issue {
  if (issue.code !== "invalid_union") return issue;
  const inside = issue.errors.flat();
  const inner =
    inside.find(({ code }) => code === "unrecognized_keys") ?? inside.find(({ path }) => path.length > 0);
  return inner === undefined ? issue : innermost({ ...inner, path: [...issue.path, ...inner.path] });
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  boolean: "true or false",
  array: "a list",
};

const need = (issue: Issue): string =>
  issue.code === "invalid_type" ? (TYPE_NAMES[issue.expected] ?? issue.expected) : issue.message;

function suggestion(unknown: string, known: readonly string[]): string {
  const guess = nearest(unknown, known);
  return guess ? `Did you mean ${guess}?` : `Known keys: ${known.join(", ")}.`;
}

/** The keys that a schema knows at a place of the file. */
function keysAt(schema: z.core.$ZodType, path: KeyPath): string[] {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault)
    return keysAt(schema._zod.def.innerType, path);
  if (schema instanceof z.ZodUnion) return schema._zod.def.options.flatMap((each) => keysAt(each, path));
  if (!(schema instanceof z.ZodObject)) return [];
  const shape = schema.shape as Readonly<Record<string, z.core.$ZodType>>;
  const [key, ...rest] = path;
  if (key === undefined) return Object.keys(shape);
  const inner = shape[String(key)];
  return inner === undefined ? [] : keysAt(inner, rest);
}

/** Line of the deepest part of `path` that stands in the document. */
function lineOf(document: ReturnType<typeof parseDocument>, lines: LineCounter, path: KeyPath): number {
  for (let depth = path.length; depth > 0; depth--) {
    const parent = document.getIn(path.slice(0, depth - 1), true) ?? document.contents;
    const key = String(path[depth - 1]);
    const items = (
      parent as { items?: readonly { key?: { value?: unknown; range?: readonly number[] } }[] } | null
    )?.items;
    const pair = items?.find((item) => String(item.key?.value) === key);
    if (pair?.key?.range) return lines.linePos(pair.key.range[0]!).line;
  }
  return 1;
}
