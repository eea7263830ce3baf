/**
 * What makes a start quick, after the compiler. The shipped languages are parsed: 46 YAML files take a tenth of a second of a
 * core. What a process or a thread starts with is bundled, in place: Node takes most of a millisecond for each module that it
 * loads, and a command has 130 of them, a thread that computes 260. Everything else in dist/ stays a module of its own, to be
 * imported.
 */
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { rolldown } from "rolldown";
import { parseDocument } from "yaml";
import { root } from "./build.mjs";

const dist = join(root, "dist");
const ENTRIES = [
  "cli/main",
  "coordinator/policy-worker",
  "rollout/lane-worker",
  "trainer/reward-worker",
  "verifiers/broker-main",
];
/** Taken in, for they are many small modules; native ones and those that load files of their own stay outside. */
const INSIDE = ["zod", "p-queue"];

const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const outside = Object.keys({ ...dependencies, ...peerDependencies }).filter(
  (name) => !INSIDE.includes(name),
);
const isOutside = (/** @type {string} */ id) =>
  id.startsWith("node:") || outside.some((name) => id === name || id.startsWith(`${name}/`));

const bundle = await rolldown({
  input: Object.fromEntries(ENTRIES.map((name) => [name, join(dist, `${name}.js`)])),
  platform: "node",
  external: isOutside,
  // zod sets its language in a module that it says has no side effects
  treeshake: { moduleSideEffects: true },
});
const { output } = await bundle.write({
  dir: dist,
  format: "esm",
  entryFileNames: "[name].js",
  chunkFileNames: "chunks/[name]-[hash].js",
});
await bundle.close();

// A run that goes on while this is built anew may yet load its own chunks.
const WEEK_MS = 7 * 24 * 3600 * 1000;
const made = new Set(output.map(({ fileName }) => fileName));
for (const name of readdirSync(join(dist, "chunks"))) {
  const file = join(dist, "chunks", name);
  if (!made.has(`chunks/${name}`) && Date.now() - statSync(file).mtimeMs > WEEK_MS) rmSync(file);
}

const languages = join(root, "configs", "languages");
const parsed = readdirSync(languages)
  .filter((name) => name.endsWith(".yaml"))
  .map((name) => {
    const text = readFileSync(join(languages, name), "utf8");
    return { name, text, content: parseDocument(text).toJS() };
  });
writeFileSync(join(dist, "languages.json"), JSON.stringify(parsed));
