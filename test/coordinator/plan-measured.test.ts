/**
 * The plan against what a real run takes. Measured: the largest of `sample_peak_mb` and `update_peak_mb` in the rows of a
 * child process (anonymous memory sampled every 25 ms, plus its share of mapped files), less the same of a run whose policy
 * has 20,000 parameters. Planned: the larger of the two stages, less what is planned for that small run.
 */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadRunConfig } from "../../coordinator/config.js";
import { planRun } from "../../coordinator/plan/plan.js";
import { parameterShapes, parseDecoderConfig, writePolicy } from "../../policy/index.js";
import { buildTokenizer } from "../../tasks/index.js";
import { digitTask, writeTasks } from "./small-policy.js";
import { stepRows, train } from "./training-process.js";

const root = mkdtempSync(join(tmpdir(), "plan-measured-"));
afterAll(() => rmSync(root, { recursive: true }));
/** A Node of these runs alone: of the one that other tests run too they would be counted a share, the smaller the more run. */
const node = join(root, "node");
copyFileSync(process.execPath, node);

interface Shape {
  readonly width: number;
  readonly layers: number;
  readonly feedForward: number;
  readonly heads: number;
  readonly vocabulary: number;
}

/** Weights of no meaning but of a real policy's size: never a stop token for long, so that completions get their full length. */
async function randomPolicy(shape: Shape): Promise<string> {
  const folder = join(root, `policy-${Object.values(shape).join("-")}`);
  if (existsSync(folder)) return folder;
  mkdirSync(folder, { recursive: true });
  const { tokenizerJson, tokenizerConfig } = buildTokenizer();
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizerJson));
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(tokenizerConfig));
  const config = parseDecoderConfig({
    model_type: "llama",
    hidden_size: shape.width,
    intermediate_size: shape.feedForward,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    vocab_size: shape.vocabulary,
    max_position_embeddings: 512,
    tie_word_embeddings: true,
  });
  const weights = Object.fromEntries(
    Object.entries(parameterShapes(config)).map(([name, lengths]) => {
      const size = lengths.reduce((a, b) => a * b, 1);
      if (lengths.length === 1) return [name, new Float32Array(size).fill(1)];
      let state = 1 + name.length;
      return [
        name,
        new Float32Array(size).map(() => {
          state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
          return (state / 2 ** 32 - 0.5) / Math.sqrt(lengths[1]!);
        }),
      ];
    }),
  );
  await writePolicy(folder, config, weights, folder);
  return folder;
}

const MB = 2 ** 20;
let count = 0;

/** Megabytes, without the process itself: planned and measured. */
async function planAndRun(shape: Shape, sections: Record<string, Record<string, unknown>>) {
  const folder = join(root, String(count++));
  mkdirSync(folder);
  writeTasks(join(folder, "train.jsonl"), [digitTask(1), digitTask(2)]);
  writeFileSync(join(folder, "reward.js"), "let n = 0;\nexport const reward = () => n++ % 2;\n");
  const file = join(folder, "run.yaml");
  const { policy, ...others } = sections;
  const run = {
    run: { name: "measured", seed: 5, steps: 2, dir: join(folder, "run") },
    policy: { path: await randomPolicy(shape), device: "cpu", threads: 1, program_in: "whole", ...policy },
    tasks: { train: join(folder, "train.jsonl"), reward: join(folder, "reward.js") },
    languages: { default: "lua", instruct: false },
    verifier: { workers: 1 },
    objective: { type: "grpo" },
    optimizer: { type: "adamw", lr: 1e-4 },
    checkpoint: { every: 100 },
    ...others,
  };
  writeFileSync(file, JSON.stringify(run));
  const { peaks } = await planRun(loadRunConfig(file), { provider: "cpu" });
  await train([file], node);
  const rows = stepRows(join(folder, "run")) as { memory: Record<string, number> }[];
  const measured = Math.max(
    ...rows.flatMap(({ memory }) => [memory.sample_peak_mb!, memory.update_peak_mb!]),
  );
  return { planned: Math.max(peaks.host.sample, peaks.host.update) / MB, measured };
}

let baseline = { planned: 0, measured: 0 };
beforeAll(async () => {
  const tiny = { width: 32, layers: 1, feedForward: 64, heads: 2, vocabulary: 300 };
  baseline = await planAndRun(tiny, {
    rollout: { prompts_per_step: 1, samples_per_prompt: 4, max_new_tokens: 8, max_prompt_tokens: 16 },
  });
}, 240_000);

test.each([
  {
    name: "3M parameters, all of them learned",
    shape: { width: 192, layers: 6, feedForward: 512, heads: 6, vocabulary: 2000 },
    sections: {
      rollout: { prompts_per_step: 2, samples_per_prompt: 8, max_new_tokens: 64, max_prompt_tokens: 16 },
    },
  },
  {
    name: "67M parameters, all of them learned, layer by layer",
    shape: { width: 640, layers: 12, feedForward: 1728, heads: 10, vocabulary: 12_000 },
    sections: {
      // Few tokens: what is learned stands in memory whatever their number.
      rollout: { prompts_per_step: 1, samples_per_prompt: 4, max_new_tokens: 16, max_prompt_tokens: 16 },
    },
  },
  {
    name: "67M parameters under an adapter, layer by layer",
    shape: { width: 640, layers: 12, feedForward: 1728, heads: 10, vocabulary: 12_000 },
    sections: {
      policy: { lora: { rank: 8, alpha: 16 } },
      rollout: { prompts_per_step: 1, samples_per_prompt: 16, max_new_tokens: 32, max_prompt_tokens: 16 },
    },
  },
])(
  "$name: planned within a fifth of measured",
  // Again where it is not: on a machine too busy to collect garbage in time, garbage is measured.
  { retry: 1, timeout: 600_000 },
  async ({ shape, sections }) => {
    const { planned, measured } = await planAndRun(shape, sections);
    const ratio = (planned - baseline.planned) / (measured - baseline.measured);
    expect(ratio, `planned ${planned} MB, measured ${measured}`).toBeGreaterThan(0.8);
    expect(ratio).toBeLessThan(1.2);
  },
);

test("what the process is planned to take without a policy is what it takes, within a fifth", () => {
  expect(baseline.planned / baseline.measured).toBeGreaterThan(0.8);
  expect(baseline.planned / baseline.measured).toBeLessThan(1.25);
});
