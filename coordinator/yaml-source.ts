/** A YAML file with the place of every key and value, and values set from the command line on top. */
import { readFileSync } from "node:fs";
import { isMap, isNode, isPair, isScalar, LineCounter, type Pair, parse, parseDocument } from "yaml";
import { ConfigError } from "../core/index.js";

export type KeyPath = readonly PropertyKey[];

export interface YamlSource {
  readonly file: string;
  readonly value: unknown;
  /** "file:line:column" of a value, or of its key; of the nearest parent that exists where the path does not. */
  readonly placeOf: (path: KeyPath, what: "key" | "value") => string;
  /** True where the value came from the command line: its paths are relative to the working directory. */
  readonly isOverridden: (path: KeyPath) => boolean;
}

interface Override {
  readonly text: string;
  readonly path: readonly string[];
  readonly value: unknown;
}

/** @throws ConfigError when it is not `a.b=value` */
function parseOverride(text: string): Override {
  const at = text.indexOf("=");
  const path = text.slice(0, Math.max(0, at)).split(".");
  if (at < 1 || path.some((key) => key === "")) {
    throw new ConfigError({ at: "--set", got: text, need: "KEY=VALUE", fix: "For example --set run.seed=3" });
  }
  try {
    return { text, path, value: parse(text.slice(at + 1)) as unknown };
  } catch (cause) {
    throw new ConfigError({ at: `--set ${text}`, need: "a value that is valid YAML", cause });
  }
}

/** A copy of `value` with one leaf replaced; maps on the way are made where they are missing. */
function withLeaf(value: unknown, path: readonly string[], leaf: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return leaf;
  if (Array.isArray(value)) {
    const copy: unknown[] = [...(value as unknown[])];
    copy[Number(key)] = withLeaf(copy[Number(key)], rest, leaf);
    return copy;
  }
  const map = typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  return { ...map, [key]: withLeaf(map[key], rest, leaf) };
}

const startsWith = (path: KeyPath, prefix: readonly string[]): boolean =>
  prefix.every((key, i) => String(path[i]) === key);

/**
 * Reads a YAML file.
 * @param overrides - `a.b=value` texts; the values are YAML
 * @throws ConfigError with file, line and column when it is not valid YAML
 */
export function readYaml(file: string, overrides: readonly string[] = []): YamlSource {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    throw new ConfigError({ at: file, need: "a file that can be read", cause });
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const place = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const [broken] = document.errors;
  if (broken) throw new ConfigError({ at: place(broken.pos[0]), need: `valid YAML (${broken.message})` });
  const sets = overrides.map(parseOverride);
  const value = sets.reduce((all, { path, value }) => withLeaf(all, path, value), document.toJS() as unknown);

  const placeOf = (path: KeyPath, what: "key" | "value"): string => {
    const set = sets.findLast(
      (each) => startsWith(path, each.path) || startsWith(each.path, path.map(String)),
    );
    if (set && path.length > 0) return `--set ${set.text}`;
    for (let length = path.length; length > 0; length--) {
      const parent: unknown = document.getIn(path.slice(0, length - 1), true);
      const key = path[length - 1];
      if (isMap(parent)) {
        const pair = parent.items.find(
          (each) => isScalar(each.key) && String(each.key.value) === String(key),
        );
        const offset = pair && offsetOf(pair, length < path.length ? "key" : what);
        if (offset !== undefined) return place(offset);
        continue;
      }
      const item: unknown = document.getIn(path.slice(0, length), true);
      if (isNode(item) && item.range) return place(item.range[0]);
    }
    return place(document.contents?.range?.[0] ?? 0);
  };
  return { file, value, placeOf, isOverridden: (path) => sets.some((each) => startsWith(path, each.path)) };
}

function offsetOf(pair: Pair, what: "key" | "value"): number | undefined {
  if (!isPair(pair)) return undefined;
  const node = what === "value" && isNode(pair.value) ? pair.value : pair.key;
  return isNode(node) ? node.range?.[0] : undefined;
}
