import { ConfigError } from "../core/index.js";
import { compile, type Provider, type Value } from "../tensor/index.js";
import * as tf from "../tensor/tfjs.js";
import type { DecoderConfig } from "./config.js";
import { decoderHidden, decoderLogits, projectLogits } from "./decoder.js";
import { weightSpecs } from "./weight-specs.js";

/** Sequences are padded up to a multiple of this, so that few graphs serve many lengths. */
const LENGTH_STEP = 32;

/** Positions of one product with the output matrix, for a policy whose base is bound: [chunk, vocabulary] is all there is. */
const HEAD_CHUNK = 64;

/** A policy where its provider computes. */
export interface ScoredPolicy {
  readonly config: DecoderConfig;
  readonly weights: Readonly<Record<string, Value>>;
  /** The rest of the weights, of a large policy: to be bound. */
  readonly base?: Readonly<Record<string, Value>>;
}

interface ScoreOptions {
  readonly provider: Provider;
  readonly threads?: number;
  /** Where a sequence stands, for messages. */
  readonly placeOf?: (index: number) => string;
}

/** Log-probabilities of padded ids [T]: [T - 1]. */
interface Scorer {
  score(padded: Int32Array): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/**
 * Natural log-probability of each id after the first, given those before it, at temperature 1.
 * @param sequences - ids, each of 2 or more tokens
 * @returns per sequence, one number for each id after the first
 * @throws ConfigError for an id outside the vocabulary or a sequence longer than the policy's positions
 */
export async function scoreIds(
  policy: ScoredPolicy,
  sequences: readonly (readonly number[])[],
  options: ScoreOptions,
): Promise<number[][]> {
  const { placeOf = (index) => `sequence ${index + 1}` } = options;
  for (const [index, ids] of sequences.entries()) checkIds(ids, placeOf(index), policy);
  const scorers = new Map<number, Scorer>();
  const scored: number[][] = [];
  for (const ids of sequences) {
    const length = Math.ceil(ids.length / LENGTH_STEP) * LENGTH_STEP;
    const open = policy.base === undefined ? wholeScorer : chunkedScorer;
    const scorer = scorers.get(length) ?? (await open(policy, length, options));
    scorers.set(length, scorer);
    const padded = new Int32Array(length);
    padded.set(ids);
    scored.push([...(await scorer.score(padded))].slice(0, ids.length - 1));
  }
  for (const scorer of scorers.values()) await scorer.dispose();
  return scored;
}

function checkIds(ids: readonly number[], at: string, { config }: Pick<ScoredPolicy, "config">): void {
  if (ids.length < 2)
    throw new ConfigError({ at, got: ids, need: "2 or more ids: the first has nothing before it" });
  if (ids.length > config.maxPositions) {
    throw new ConfigError({
      at,
      got: ids.length,
      need: `at most ${config.maxPositions} ids, the policy's positions`,
    });
  }
  const bad = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= config.vocabulary);
  if (bad !== undefined)
    throw new ConfigError({ at, got: bad, need: `ids from 0 to ${config.vocabulary - 1}` });
}

/** Log-probabilities of ids under the logits before them, over the last axis. */
function chosenLogProbs(logits: tf.Tensor, ids: tf.Tensor, vocabulary: number): tf.Tensor {
  const chosen = tf.cast(tf.oneHot(ids, vocabulary), "float32");
  return tf.sum(tf.mul(tf.logSoftmax(logits), chosen), -1);
}

/** One graph from ids to log-probabilities. */
async function wholeScorer(policy: ScoredPolicy, length: number, options: ScoreOptions): Promise<Scorer> {
  const { config, weights } = policy;
  const graph = await compile(
    (inputs) => {
      const ids = inputs.ids as tf.Tensor2D; // [1, T]
      const logits = decoderLogits(inputs, ids, config);
      const before = tf.slice(logits, [0, 0, 0], [1, length - 1, config.vocabulary]);
      return { log_probs: chosenLogProbs(before, tf.slice(ids, [0, 1], [1, length - 1]), config.vocabulary) };
    },
    { ...weightSpecs(config), ids: { shape: [1, length], dtype: "int32" } },
    { ...options, name: "score" },
  );
  return {
    score: async (ids) => (await graph.run({ ...weights, ids })).log_probs as Float32Array,
    dispose: () => graph.dispose(),
  };
}

/** Hidden states first, then the output matrix some positions at a time. */
async function chunkedScorer(
  { config, base, weights }: ScoredPolicy,
  length: number,
  options: ScoreOptions,
): Promise<Scorer> {
  const specs = weightSpecs(config);
  const bound = { ...base, ...weights };
  const hidden = await compile(
    (inputs) => ({ hidden: decoderHidden(inputs, inputs.ids as tf.Tensor2D, config).hidden }),
    { ...specs, ids: { shape: [1, length], dtype: "int32" } },
    { ...options, bound, name: "score hidden" },
  );
  const head = await compile(
    (inputs) => {
      const logits = projectLogits(inputs, inputs.hidden as tf.Tensor2D);
      return { log_probs: chosenLogProbs(logits, inputs.next!, config.vocabulary) };
    },
    {
      ...headSpecs(specs),
      hidden: { shape: [HEAD_CHUNK, config.width], dtype: "float32" },
      next: { shape: [HEAD_CHUNK], dtype: "int32" },
    },
    { ...options, bound, name: "score head" },
  );
  const score = async (ids: Int32Array): Promise<Float32Array> => {
    const states = (await hidden.run({ ids })).hidden as Float32Array; // [T, D]
    const logProbs = new Float32Array(length - 1);
    for (let from = 0; from < length - 1; from += HEAD_CHUNK) {
      const count = Math.min(HEAD_CHUNK, length - 1 - from);
      const [part, next] = [new Float32Array(HEAD_CHUNK * config.width), new Int32Array(HEAD_CHUNK)];
      part.set(states.subarray(from * config.width, (from + count) * config.width));
      next.set(ids.subarray(from + 1, from + 1 + count));
      const { log_probs } = await head.run({ hidden: part, next });
      logProbs.set((log_probs as Float32Array).subarray(0, count), from);
    }
    return logProbs;
  };
  return { score, dispose: async () => void (await Promise.all([hidden.dispose(), head.dispose()])) };
}

/** Of the output matrix: its own, or the embedding. */
const headSpecs = (specs: ReturnType<typeof weightSpecs>): ReturnType<typeof weightSpecs> => {
  const name = specs["lm_head.weight"] === undefined ? "model.embed_tokens.weight" : "lm_head.weight";
  return { [name]: specs[name]! };
};
