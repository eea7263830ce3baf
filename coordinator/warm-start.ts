import { join } from "node:path";
import { replaceFile } from "../checkpoints/index.js";
import { makeFolder, randomStream, type Sample } from "../core/index.js";
import {
  initialWeights,
  parseDecoderConfig,
  readTokenizer,
  writeChecksums,
  writePolicy,
} from "../policy/index.js";
import { buildTokenizer, type WarmStartExample } from "../tasks/index.js";
import type { Provider } from "../tensor/index.js";
import { ObjectiveConfig, OptimizerConfig } from "../trainer/index.js";
import { openPolicyHost } from "./policy-host.js";
import type { Progress } from "./progress.js";

/** Shape of the quick start's policy: 2 layers of width 128, 8 heads, 0.46 million parameters. */
const SHAPE = {
  model_type: "llama",
  hidden_size: 128,
  intermediate_size: 384,
  num_hidden_layers: 2,
  num_attention_heads: 8,
  num_key_value_heads: 8,
  rope_theta: 1000,
  rms_norm_eps: 1e-6,
  max_position_embeddings: 512,
  tie_word_embeddings: true,
};

/** Supervised steps of 32 examples; docs/lab.md says what fewer or more give. */
export const WARM_START_STEPS = 1300;
const BATCH = 32;
/** Batches sorted by length together: a batch is then half short and half long examples, two microbatches of little padding. */
const POOL = 8;

const OBJECTIVE = ObjectiveConfig.parse({ type: "sft" });
const OPTIMIZER = OptimizerConfig.parse({
  type: "muon",
  lr: 0.02,
  adamw_lr: 4e-3,
  warmup_steps: 30,
  schedule: "linear",
  decay_fraction: 0.35,
  final_fraction: 0.05,
  microbatch_tokens: 3072,
});

/** How many examples a warm start of so many steps takes. */
export const warmStartExampleCount = (steps: number): number => steps * BATCH;

/**
 * Makes the quick start's policy from nothing: tokenizer, random weights, imitation of demonstrations. A function of the
 * seed and the examples; writes a policy folder.
 * @param examples - in training order; the first steps' are the easiest
 */
export async function warmStart(request: {
  readonly folder: string;
  readonly examples: readonly WarmStartExample[];
  readonly seed: number;
  readonly provider: Provider;
  readonly threads: number;
  readonly progress: Progress;
}): Promise<void> {
  const { folder, examples, seed, progress } = request;
  const steps = Math.floor(examples.length / BATCH);
  makeFolder(folder);
  const { tokenizerJson, tokenizerConfig } = buildTokenizer();
  await replaceFile(join(folder, "tokenizer.json"), JSON.stringify(tokenizerJson));
  await replaceFile(join(folder, "tokenizer_config.json"), `${JSON.stringify(tokenizerConfig, null, 1)}\n`);
  const tokenizer = readTokenizer(folder);
  const config = parseDecoderConfig({
    ...SHAPE,
    vocab_size: tokenizer.vocabulary,
    eos_token_id: tokenizer.stopIds[0],
  });
  const samples = examples.map(
    ({ prompt, response }, index): Sample => ({
      rolloutId: `demonstration ${index}`,
      promptIds: tokenizer.promptIds([{ role: "user", content: prompt }]),
      completionIds: [...tokenizer.encode(response), ...tokenizer.stopIds],
      rolloutLogProbs: [],
      reward: 1,
      advantage: 0,
      teacherPromptIds: null,
    }),
  );
  const host = await openPolicyHost({
    config,
    weights: initialWeights(config, seed),
    seed,
    provider: request.provider,
    threads: request.threads,
    objective: OBJECTIVE,
    optimizer: OPTIMIZER,
    totalSteps: steps,
    temperature: 1,
  });
  try {
    progress.stage("warm start", steps);
    for (const [index, batch] of demonstrationBatches(samples, seed).entries()) {
      const { loss } = await host.update({ samples: batch });
      progress.update({ done: index + 1, loss });
    }
    const { tensors } = await host.exportState();
    const weights = Object.entries(tensors).flatMap(([key, { data }]) =>
      key.startsWith("weights/") ? [[key.slice("weights/".length), data] as const] : [],
    );
    await writePolicy(folder, config, Object.fromEntries(weights), folder);
    await writeChecksums(folder, [
      "config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
  } finally {
    await host.close();
  }
}

/** Batches in training order: each pool of examples is sorted by length, and a batch takes one short and one long half. */
export function demonstrationBatches(samples: readonly Sample[], seed: number): Sample[][] {
  const batches: Sample[][] = [];
  for (let start = 0; start + BATCH <= samples.length; start += POOL * BATCH) {
    const pool = samples.slice(start, start + POOL * BATCH);
    const count = Math.floor(pool.length / BATCH);
    const half = BATCH / 2;
    const byLength = pool.slice(0, count * BATCH).sort((a, b) => lengthOf(a) - lengthOf(b));
    const halves = Array.from({ length: 2 * count }, (_, i) => byLength.slice(i * half, (i + 1) * half));
    const made = Array.from({ length: count }, (_, i) => [...halves[i]!, ...halves[2 * count - 1 - i]!]);
    batches.push(...randomStream(seed, "warm-start/batches", start).shuffle(made));
  }
  return batches;
}

const lengthOf = (sample: Sample): number => sample.promptIds.length + sample.completionIds.length;
