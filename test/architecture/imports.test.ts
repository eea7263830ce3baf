import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";

/** Rows of the house, lowest first: a folder may import its own files and any row below its own. */
const ROWS = [
  ["core"],
  ["tensor", "checkpoints", "tasks"],
  ["policy"],
  ["verifiers", "rollout", "trainer"],
  ["coordinator"],
  ["cli", "dashboard"],
];
const rowOf = (folder: string): number => ROWS.findIndex((row) => row.includes(folder));

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile());
}

const parts = ROWS.flat().filter((part) => readdirSync(packageRoot).includes(part));
const sources = parts
  .flatMap((part) => filesBelow(join(packageRoot, part)))
  .filter((path) => path.endsWith(".ts"))
  .map((path) => relative(packageRoot, path));

/** Relative imports of a file, as paths from the package's root; types count too. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(packageRoot, file), "utf8").replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
  const found = text.matchAll(/(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s*)"(\.[^"]+)"/g);
  return [...found].map(([, target]) => join(dirname(file), target!).replace(/\.js$/, ".ts"));
}

const folderOf = (file: string): string => file.split(sep)[0]!;
const arrows = sources.flatMap((file) => importsOf(file).map((target) => ({ file, target })));

test("there are sources to read, and arrows between them", () => {
  expect(sources.length).toBeGreaterThan(30);
  expect(arrows.length).toBeGreaterThan(100);
});

test("imports point down the rows of the house, never up or sideways", () => {
  const wrong = arrows.filter(({ file, target }) => {
    const [from, to] = [folderOf(file), folderOf(target)];
    return from !== to && !(rowOf(to) >= 0 && rowOf(to) < rowOf(from));
  });
  expect(wrong.map(({ file, target }) => `${file} -> ${target}`)).toEqual([]);
});

/** Strongly: every file from which a file can be reached, walked depth first; the first way back found is told. */
function cycle(): string[] | null {
  const next = new Map<string, string[]>();
  for (const { file, target } of arrows) next.set(file, [...(next.get(file) ?? []), target]);
  const done = new Set<string>();
  const walk = (file: string, way: readonly string[]): string[] | null => {
    const at = way.indexOf(file);
    if (at >= 0) return [...way.slice(at), file];
    if (done.has(file)) return null;
    for (const target of next.get(file) ?? []) {
      const found = walk(target, [...way, file]);
      if (found) return found;
    }
    done.add(file);
    return null;
  };
  for (const file of sources) {
    const found = walk(file, []);
    if (found) return found;
  }
  return null;
}

test("no file imports itself by a detour", () => {
  expect(cycle()).toBeNull();
});

test("nothing is called utils, helpers, common, misc or types", () => {
  const vague = /(^|\/)(utils?|helpers?|common|misc|types)(\/|\.ts$)/;
  expect(sources.filter((file) => vague.test(file))).toEqual([]);
});

test("folders are two levels deep at most, and files are kebab-case", () => {
  expect(sources.filter((file) => file.split(sep).length > 3)).toEqual([]);
  expect(sources.filter((file) => !/^[a-z0-9/-]+\.ts$/.test(file))).toEqual([]);
});

test("index.ts lists a folder's public names one by one", () => {
  const starred = sources.filter(
    (file) => file.endsWith("index.ts") && /export \*/.test(readFileSync(join(packageRoot, file), "utf8")),
  );
  expect(starred).toEqual([]);
});

test("no file is longer than 400 lines: at 300 one looks for the second idea", () => {
  const long = sources
    .map((file) => ({ file, lines: readFileSync(join(packageRoot, file), "utf8").split("\n").length }))
    .filter(({ lines }) => lines > 400);
  expect(long).toEqual([]);
});
