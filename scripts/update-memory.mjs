#!/usr/bin/env node
/**
 * Peak memory of one update, in one graph and layer by layer, each measured in a process of its own: what it allocates
 * (anonymous pages; the frozen base is mapped from a file, and is not among them). Random weights, LoRA, provider cpu.
 *   node scripts/update-memory.mjs                 prints the table of docs/objectives.md
 *   node scripts/update-memory.mjs '{"layers":2}'  one process: a shape, see SHAPE; prints JSON
 */
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { initialAdapter, LoraConfig, parameterShapes, parseDecoderConfig } from "../dist/policy/index.js";
import { createLearner, decoderModel, ObjectiveConfig, OptimizerConfig } from "../dist/trainer/index.js";

/** Qwen2.5-0.5B is layers 24, width 896, feedForward 4864, heads 14, vocabulary 151936. */
const SHAPE = {
  layers: 4,
  width: 256,
  feedForward: 768,
  heads: 4,
  vocabulary: 151_936,
  rows: 8,
  prompt: 64,
  completion: 64,
  recompute: "layers",
  objective: { type: "sdpo", topk: 20 },
  threads: 2,
};
/** @typedef {typeof SHAPE} Shape */
/** @typedef {Shape & { peak_mb: number, before_mb: number, cpu_s: number, loss: number }} Measured */

/** @param {readonly number[]} shape */
const sizeOf = (shape) => shape.reduce((a, b) => a * b, 1);

/**
 * A file of random weights, and where each stands in it.
 * @param {Record<string, readonly number[]>} shapes @param {string} folder
 */
function writeBase(shapes, folder) {
  const file = join(folder, "base.bin");
  const block = new Float32Array(2 ** 20);
  for (let i = 0, state = 1; i < block.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    block[i] = (state / 0x7fffffff - 0.5) * 0.07;
  }
  const bytes = new Uint8Array(block.buffer);
  const total = Object.values(shapes).reduce((sum, shape) => sum + 4 * sizeOf(shape), 0);
  const out = openSync(file, "w");
  for (let at = 0; at < total; at += bytes.length) writeSync(out, bytes);
  closeSync(out);
  let offset = 0;
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => {
      offset += 4 * sizeOf(shape);
      const spec = { shape, dtype: /** @type {const} */ ("float32") };
      return [name, { file, offset: offset - 4 * sizeOf(shape), spec }];
    }),
  );
}

/** Looks every few milliseconds, from a thread of its own: this one is busy computing. The largest so far, in MB, in [0]. */
function watchMemory() {
  const seen = new Float64Array(new SharedArrayBuffer(8));
  const code = `
    const { readFileSync } = require("node:fs");
    const { workerData } = require("node:worker_threads");
    const look = () => {
      const kilobytes = Number(/RssAnon:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
      workerData[0] = Math.max(workerData[0], kilobytes / 1024);
    };
    setInterval(look, 5);`;
  new Worker(code, { eval: true, workerData: seen }).unref();
  return seen;
}

/** @param {Shape} shape @returns {Promise<Measured>} */
async function measure(shape) {
  const folder = mkdtempSync(join(tmpdir(), "update-memory-"));
  try {
    const decoder = parseDecoderConfig({
      model_type: "qwen2",
      hidden_size: shape.width,
      intermediate_size: shape.feedForward,
      num_hidden_layers: shape.layers,
      num_attention_heads: shape.heads,
      num_key_value_heads: 2,
      vocab_size: shape.vocabulary,
      tie_word_embeddings: true,
    });
    const config = { ...decoder, lora: LoraConfig.parse({ rank: 8 }) };
    const learner = createLearner({
      model: decoderModel(config),
      weights: initialAdapter(config, 0),
      frozen: writeBase(parameterShapes(decoder), folder),
      objective: ObjectiveConfig.parse(shape.objective),
      optimizer: OptimizerConfig.parse({
        type: "adamw",
        microbatch_tokens: 2 ** 20, // the whole batch at once
        recompute: shape.recompute,
      }),
      temperature: 1,
      totalSteps: 10,
      compile: { provider: "cpu", threads: shape.threads, deterministic: true },
    });
    /** @type {(length: number, seed: number) => number[]} */
    const ids = (length, seed) =>
      Array.from({ length }, (_, i) => (i * 7919 + seed * 104_729) % shape.vocabulary);
    const samples = Array.from({ length: shape.rows }, (_, i) => ({
      rolloutId: String(i),
      promptIds: ids(shape.prompt, i),
      completionIds: ids(shape.completion, i + 50),
      rolloutLogProbs: ids(shape.completion, 0).map(() => -11.9),
      reward: i % 2,
      advantage: (i % 2) - 0.5,
      teacherPromptIds: ids(shape.prompt, i + 99),
    }));
    const seen = watchMemory();
    while (seen[0] === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    const [before, started] = [seen[0] ?? 0, process.cpuUsage()];
    const { loss } = await learner.update({ samples });
    const { user, system } = process.cpuUsage(started);
    const [peak, cpu] = [Math.round(seen[0] ?? 0), Math.round((user + system) / 1e5) / 10];
    return { ...shape, before_mb: Math.round(before), peak_mb: peak, cpu_s: cpu, loss };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @param {Partial<Shape>} shape @returns {Measured} */
function measureApart(shape) {
  const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), JSON.stringify(shape)], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (child.status !== 0) throw new Error(`measuring ${JSON.stringify(shape)} ended with ${child.status}`);
  return JSON.parse(child.stdout);
}

const TABLE = [
  ...["none", "layers"].flatMap((recompute) => [4, 12].map((layers) => ({ recompute, layers, rows: 4 }))),
  { recompute: "layers", layers: 4, rows: 16 },
];

const argument = process.argv[2];
if (argument === undefined) {
  process.stdout.write(
    "| recompute | layers | width | tokens | [tokens, vocabulary] | peak of the update | CPU seconds |\n",
  );
  process.stdout.write("| --- | --- | --- | --- | --- | --- | --- |\n");
  for (const row of TABLE) {
    const { recompute, layers, width, rows, completion, vocabulary, peak_mb, before_mb, cpu_s } =
      measureApart(row);
    const logits = Math.round((rows * completion * vocabulary * 4) / 2 ** 20);
    const cells = [
      recompute,
      layers,
      width,
      rows * completion,
      `${logits} MB`,
      `${peak_mb - before_mb} MB`,
      cpu_s,
    ];
    process.stdout.write(`| ${cells.join(" | ")} |\n`);
  }
} else {
  process.stdout.write(`${JSON.stringify(await measure({ ...SHAPE, ...JSON.parse(argument) }))}\n`);
  process.exit(0);
}
