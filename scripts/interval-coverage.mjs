/**
 * How often 95% intervals hold the truth, in simulated evaluations: ours, the t-interval over task means, and Wilson's over
 * programs as if they were independent. `node scripts/interval-coverage.mjs [evaluations a cell]` after `npm run build`.
 */
import { clusteredInterval, wilsonInterval } from "../dist/coordinator/intervals.js";
import { randomStream } from "../dist/core/index.js";

const EVALUATIONS = Number(process.argv[2] ?? 4000);
const random = randomStream(0, "interval coverage");

/** Marsaglia and Tsang 2000. @param {number} shape @returns {number} */
function gamma(shape) {
  if (shape < 1) return gamma(shape + 1) * random.next() ** (1 / shape);
  const d = shape - 1 / 3;
  for (;;) {
    const x = random.normal();
    const v = (1 + x / Math.sqrt(9 * d)) ** 3;
    if (v > 0 && Math.log(1 - random.next()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
  }
}

/** @param {number} a @param {number} b @returns {number} */
function beta(a, b) {
  const x = gamma(a);
  return x / (x + gamma(b));
}

/** Quantile 0.975 of Student's t, Cornish-Fisher. @param {number} df @returns {number} */
function studentQuantile(df) {
  const z = 1.959964;
  return z + (z ** 3 + z) / (4 * df) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * df * df);
}

/** @param {readonly number[]} rates @param {number} samples @returns {Record<string, readonly [number, number]>} */
function intervals(rates, samples) {
  const mean = rates.reduce((a, b) => a + b) / rates.length;
  const variance = rates.reduce((sum, rate) => sum + (rate - mean) ** 2, 0) / (rates.length - 1);
  const half = studentQuantile(rates.length - 1) * Math.sqrt(variance / rates.length);
  return {
    ours: clusteredInterval(rates.map((value, i) => ({ task: String(i), value, programs: samples }))),
    t: [mean - half, mean + half],
    independent: wilsonInterval(mean, rates.length * samples),
  };
}

/** @param {number} mean @param {number} correlation @param {number} tasks @param {number} samples */
function cell(mean, correlation, tasks, samples) {
  const size = 1 / correlation - 1;
  /** @type {Record<string, number>} */
  const held = {};
  for (let evaluation = 0; evaluation < EVALUATIONS; evaluation++) {
    const rates = Array.from({ length: tasks }, () => {
      const chance = beta(mean * size, (1 - mean) * size);
      return Array.from({ length: samples }, () => random.next() < chance).filter(Boolean).length / samples;
    });
    for (const [name, [low, high]] of Object.entries(intervals(rates, samples)))
      held[name] = (held[name] ?? 0) + (low <= mean && mean <= high ? 1 : 0);
  }
  const shares = Object.entries(held).map(
    ([name, count]) => `${name} ${((100 * count) / EVALUATIONS).toFixed(1)}%`,
  );
  process.stdout.write(
    `mean ${mean}, correlation ${correlation}, ${tasks} tasks of ${samples}: ${shares.join(", ")}\n`,
  );
}

for (const [mean, correlation] of /** @type {const} */ ([
  [0.05, 0.6],
  [0.2, 0.5],
  [0.5, 0.001],
  [0.5, 0.3],
  [0.5, 0.8],
  [0.9, 0.5],
  [0.97, 0.5],
])) {
  for (const tasks of [10, 30, 100]) for (const samples of [1, 4]) cell(mean, correlation, tasks, samples);
}
