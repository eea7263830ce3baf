/** Loads a YAML file against a zod schema; every mistake is told with its place, its reason and the nearest right key. */

import type { z } from "zod";
import { ConfigError, nearest } from "../core/index.js";
import { inputSchema, type JsonSchema, keysAt, pathsOfKey, withAbsolutePaths } from "./json-schema.js";
import { type KeyPath, readYaml, type YamlSource } from "./yaml-source.js";

type Issue = z.core.$ZodIssue;

/** A file with mistakes: one line each in `message`. */
export class ConfigFileError extends ConfigError {
  constructor(file: string, lines: readonly string[]) {
    super({ at: file, need: "a valid configuration" });
    this.message = lines.join("\n");
  }
}

const dotted = (path: KeyPath): string => path.map(String).join(".");

const valueAt = (value: unknown, path: KeyPath): unknown =>
  path.reduce<unknown>(
    (at, key) =>
      typeof at === "object" && at !== null ? (at as Record<PropertyKey, unknown>)[key] : undefined,
    value,
  );

function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = typeof value === "number" ? String(value) : (JSON.stringify(value) ?? String(value));
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** Why a key is unknown there, and what was probably meant. */
function unknownKey(schema: JsonSchema, value: unknown, parent: KeyPath, key: string): string {
  const here = keysAt(schema, value, parent);
  const near = nearest(key, here);
  if (near !== null) return `unknown key. Did you mean ${dotted([...parent, near])}?`;
  const elsewhere = pathsOfKey(schema, key);
  if (elsewhere.includes(dotted([...parent, key]))) {
    return `not a key of this type of ${dotted(parent)}, whose keys are: ${here.join(", ")}.`;
  }
  if (elsewhere.length > 0) return `unknown key here. It belongs at ${elsewhere.slice(0, 3).join(" or ")}.`;
  return `unknown key. Keys ${parent.length === 0 ? "at the top" : `of ${dotted(parent)}`}: ${here.join(", ")}.`;
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  int: "an integer",
  boolean: "true or false",
  array: "a list",
  object: "a map",
  record: "a map",
};

function oneOf(options: readonly unknown[], value: unknown): string {
  const near =
    typeof value === "string"
      ? nearest(
          value,
          options.filter((each) => typeof each === "string"),
        )
      : null;
  const choice = options.length === 1 ? shown(options[0]) : `one of ${options.map(String).join(", ")}`;
  return `need ${choice}, got ${shown(value)}.${near === null ? "" : ` Did you mean ${near}?`}`;
}

/** What a value must be, in a person's words. */
function reason(issue: Issue, value: unknown): string {
  switch (issue.code) {
    case "invalid_type":
      if (value === undefined) return `missing: need ${TYPE_NAMES[issue.expected] ?? issue.expected}.`;
      return `need ${TYPE_NAMES[issue.expected] ?? issue.expected}, got ${shown(value)}.`;
    case "invalid_value":
      return oneOf(issue.values, value);
    case "too_small": {
      if (issue.origin !== "number" && issue.origin !== "int") return `${issue.message}.`;
      return `need a number ${issue.inclusive ? "of at least" : "above"} ${issue.minimum}, got ${shown(value)}.`;
    }
    case "too_big": {
      if (issue.origin !== "number" && issue.origin !== "int") return `${issue.message}.`;
      return `need a number ${issue.inclusive ? "of at most" : "below"} ${issue.maximum}, got ${shown(value)}.`;
    }
    case "invalid_union":
      if ("options" in issue && Array.isArray(issue.options)) return oneOf(issue.options, value);
      if (value === undefined) return "missing.";
      return `need another value, got ${shown(value)}.`;
    default:
      return `${issue.message}${issue.message.endsWith(".") ? "" : "."}`;
  }
}

/** A union fails with the issues of each branch; the branch that got furthest is the one that was meant. */
function innermost(issue: Issue): Issue[] {
  if (issue.code !== "invalid_union" || issue.errors.length === 0) return [issue];
  const depth = (branch: readonly Issue[]): number => Math.max(...branch.map(({ path }) => path.length));
  const deepest = [...issue.errors].sort((a, b) => depth(b) - depth(a))[0]!;
  if (depth(deepest) === 0 && deepest.every(({ code }) => code !== "unrecognized_keys")) return [issue];
  return deepest.flatMap((inner) => innermost({ ...inner, path: [...issue.path, ...inner.path] }));
}

function describe(issue: Issue, schema: JsonSchema, source: YamlSource): string[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => {
      const path = [...issue.path, key];
      const why = unknownKey(schema, source.value, issue.path, key);
      return `${source.placeOf(path, "key")}: ${dotted(path)}: ${why}`;
    });
  }
  const at = issue.path.length === 0 ? "the file" : dotted(issue.path);
  const why = reason(issue, valueAt(source.value, issue.path));
  return [`${source.placeOf(issue.path, "value")}: ${at}: ${why}`];
}

/**
 * Reads, checks and resolves a YAML file.
 * @param overrides - `a.b=value` texts of the command line
 * @throws ConfigFileError with a line for each mistake: file, line, column, path, reason, nearest right key
 */
export function loadConfigFile<T>(file: string, schema: z.ZodType<T>, overrides: readonly string[] = []): T {
  const source = readYaml(file, overrides);
  const json = inputSchema(schema);
  const parsed = schema.safeParse(withAbsolutePaths(json, source));
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.flatMap(innermost).flatMap((issue) => describe(issue, json, source));
  throw new ConfigFileError(file, lines);
}
