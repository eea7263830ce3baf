import * as tf from "@tensorflow/tfjs-core";
import { ConfigError } from "../core/index.js";
import { type CompiledFunction, compile, type Provider } from "../tensor/index.js";
import { decoderLogits } from "./decoder.js";
import type { PolicyFolder } from "./folder.js";
import { weightSpecs } from "./weight-specs.js";

/** Sequences are padded up to a multiple of this, so that few graphs serve many lengths. */
const LENGTH_STEP = 32;

/**
 * Natural log-probability of each id after the first, given those before it, at temperature 1.
 * @param sequences - ids, each of 2 or more tokens
 * @returns per sequence, one number for each id after the first
 * @param options.placeOf - where a sequence stands, for messages
 * @throws ConfigError for an id outside the vocabulary or a sequence longer than the policy's positions
 */
export async function scoreIds(
  policy: Pick<PolicyFolder, "config" | "weights">,
  sequences: readonly (readonly number[])[],
  options: { provider: Provider; threads?: number; placeOf?: (index: number) => string },
): Promise<number[][]> {
  const { placeOf = (index) => `sequence ${index + 1}` } = options;
  for (const [index, ids] of sequences.entries()) checkIds(ids, placeOf(index), policy);
  const graphs = new Map<number, CompiledFunction>();
  const scored: number[][] = [];
  for (const ids of sequences) {
    const length = Math.ceil(ids.length / LENGTH_STEP) * LENGTH_STEP;
    const graph = graphs.get(length) ?? (await compileScore(policy, length, options));
    graphs.set(length, graph);
    const padded = new Int32Array(length);
    padded.set(ids);
    const { log_probs } = await graph.run({ ...policy.weights, ids: padded });
    scored.push([...(log_probs as Float32Array)].slice(0, ids.length - 1));
  }
  for (const graph of graphs.values()) await graph.dispose();
  return scored;
}

function checkIds(ids: readonly number[], at: string, { config }: Pick<PolicyFolder, "config">): void {
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

function compileScore(
  { config }: Pick<PolicyFolder, "config">,
  length: number,
  options: { provider: Provider; threads?: number },
): Promise<CompiledFunction> {
  return compile(
    (inputs) => {
      const ids = inputs.ids as tf.Tensor2D; // [1, T]
      const logits = decoderLogits(inputs, ids, config);
      const before = tf.slice(logits, [0, 0, 0], [1, length - 1, config.vocabulary]);
      const chosen = tf.cast(tf.oneHot(tf.slice(ids, [0, 1], [1, length - 1]), config.vocabulary), "float32");
      return { log_probs: tf.sum(tf.mul(tf.logSoftmax(before), chosen), -1) };
    },
    { ...weightSpecs(config), ids: { shape: [1, length], dtype: "int32" } },
    { ...options, name: "score" },
  );
}
