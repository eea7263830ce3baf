#!/usr/bin/env node
/**
 * What `rollout.base_precision: int8` gives on this machine: CPU time of one decoding step of a policy, on its float32 base and
 * with int8 matrices, in turns. See --help.
 */
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { build, root } from "./build.mjs";

const HELP = `usage: node scripts/int8-speed.mjs POLICY [options]

  --slots N,N,...   sequences in one step (default 1,4,16)
  --steps N         measured steps of each (default 10)
  --threads N       (default 1)

POLICY is a folder with at least 64 million parameters; see scripts/published-shape.mjs for one of random weights.
What is widened and quantised stays in the cache: retort cache.
`;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    slots: { type: "string", default: "1,4,16" },
    steps: { type: "string", default: "10" },
    threads: { type: "string", default: "1" },
    help: { type: "boolean", default: false },
  },
});
const [folder] = positionals;
if (values.help || folder === undefined) {
  process.stdout.write(HELP);
  process.exit(values.help ? 0 : 2);
}

await build();
const load = (/** @type {string} */ file) => import(pathToFileURL(join(root, "dist", file)).href);
const { int8Weights, mappedWeights, readDecoderConfig, weightPlaces } = await load("policy/index.js");
const { createHostCache } = await load("rollout/host-cache.js");

const WARM_UP = 2;
/** Positions of a cache, and the one that a step is at. */
const [LENGTH, POSITION] = [128, 64];
const config = readDecoderConfig(resolve(folder));
const places = weightPlaces(resolve(folder), config);
const progress = { note: (/** @type {string} */ line) => console.error(line) };
const base = await mappedWeights(places, progress);
const int8 = await int8Weights(places, progress);

/** @param {number[]} times */
const median = (times) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? Number.NaN;

console.log("slots  float32 ms  int8 ms  ratio   (CPU time of a step, median)");
for (const slots of values.slots.split(",").map(Number)) {
  const shape = { slots, promptLength: LENGTH / 2, cacheLength: LENGTH };
  const common = { config, shape, provider: "cpu", threads: Number(values.threads), base };
  const sides = [];
  for (const options of [common, { ...common, int8 }]) {
    const cache = await createHostCache(options);
    await cache.useWeights(base);
    sides.push({ cache, times: /** @type {number[]} */ ([]) });
  }
  const ids = Int32Array.from({ length: slots }, (_, slot) => slot);
  const positions = new Int32Array(slots).fill(POSITION);
  const draws = Array.from({ length: slots }, () => ({}));
  for (let step = 0; step < WARM_UP + Number(values.steps); step++) {
    for (const { cache, times } of sides) {
      const before = process.cpuUsage();
      await cache.step(ids, positions, draws);
      const { user, system } = process.cpuUsage(before);
      if (step >= WARM_UP) times.push((user + system) / 1000);
    }
  }
  const [float32 = 0, eight = 0] = sides.map(({ times }) => median(times));
  console.log(
    `${String(slots).padStart(5)}${float32.toFixed(1).padStart(12)}${eight.toFixed(1).padStart(9)}${(float32 / eight).toFixed(2).padStart(7)}`,
  );
  for (const { cache } of sides) await cache.dispose();
}
