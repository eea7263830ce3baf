/** Questions to a JSON Schema: which keys may stand here, and which strings are paths. */
import { dirname, resolve } from "node:path";
import { z } from "zod";
import type { KeyPath, YamlSource } from "./yaml-source.js";

/** The part of JSON Schema that zod writes. */
export interface JsonSchema {
  readonly type?: string;
  readonly format?: string;
  readonly const?: unknown;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly allOf?: readonly JsonSchema[];
  readonly additionalProperties?: boolean | JsonSchema;
}

/** The schema of what a person writes: defaults may be left out. */
export const inputSchema = (schema: z.ZodType): JsonSchema =>
  z.toJSONSchema(schema, { io: "input", unrepresentable: "any", reused: "inline" }) as JsonSchema;

/** True where a variant's constants (`type: grpo`) contradict the value. */
function contradicts(schema: JsonSchema, value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(schema.properties ?? {}).some(([key, { const: constant }]) => {
    const given = (value as Record<string, unknown>)[key];
    return constant !== undefined && given !== undefined && given !== constant;
  });
}

/** A schema's variants, themselves without variants; those that the value rules out are left out. */
function variants(schema: JsonSchema, value: unknown): JsonSchema[] {
  const inner = [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])];
  if (inner.length === 0) return [schema];
  const flat = inner.flatMap((each) => variants(each, value));
  const fitting = flat.filter((each) => !contradicts(each, value));
  return fitting.length > 0 ? fitting : flat;
}

const child = (value: unknown, key: PropertyKey): unknown =>
  typeof value === "object" && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined;

function childSchemas(schema: JsonSchema, key: PropertyKey): JsonSchema[] {
  const named = schema.properties?.[String(key)];
  if (named) return [named];
  if (typeof schema.additionalProperties === "object") return [schema.additionalProperties];
  return typeof key === "number" && schema.items ? [schema.items] : [];
}

/** Keys that may stand in the map at `path`. */
export function keysAt(schema: JsonSchema, value: unknown, path: KeyPath): string[] {
  const [key, ...rest] = path;
  const here = variants(schema, value);
  if (key === undefined) return [...new Set(here.flatMap((each) => Object.keys(each.properties ?? {})))];
  return [
    ...new Set(
      here
        .flatMap((each) => childSchemas(each, key))
        .flatMap((each) => keysAt(each, child(value, key), rest)),
    ),
  ];
}

/** Dotted paths of every key of that name, anywhere in the schema. */
export function pathsOfKey(schema: JsonSchema, name: string, above = ""): string[] {
  const found = variants(schema, undefined).flatMap((each) =>
    Object.entries(each.properties ?? {}).flatMap(([key, inner]) => {
      const path = above === "" ? key : `${above}.${key}`;
      return [...(key === name ? [path] : []), ...pathsOfKey(inner, name, path)];
    }),
  );
  return [...new Set(found)];
}

/** Paths within the value of every string whose schema has the format "path". */
function pathStrings(schema: JsonSchema, value: unknown, at: KeyPath = []): KeyPath[] {
  const here = variants(schema, value);
  if (typeof value === "string") return here.some(({ format }) => format === "path") ? [at] : [];
  if (typeof value !== "object" || value === null) return [];
  const keys: PropertyKey[] = Array.isArray(value) ? [...value.keys()] : Object.keys(value);
  return keys.flatMap((key) => {
    const found = here.flatMap((each) => childSchemas(each, key));
    const inner: JsonSchema = found.length === 1 ? found[0]! : { anyOf: found };
    return found.length === 0 ? [] : pathStrings(inner, child(value, key), [...at, key]);
  });
}

/**
 * The value with its file paths made absolute: relative to the YAML file, or to the working directory where the
 * command line set them.
 */
export function withAbsolutePaths(schema: JsonSchema, source: YamlSource): unknown {
  const copy: unknown = structuredClone(source.value);
  for (const path of pathStrings(schema, copy)) {
    const parent = path.slice(0, -1).reduce<unknown>(child, copy) as Record<PropertyKey, unknown>;
    const base = source.isOverridden(path) ? process.cwd() : dirname(resolve(source.file));
    const key = path.at(-1)!;
    parent[key] = resolve(base, parent[key] as string);
  }
  return copy;
}
