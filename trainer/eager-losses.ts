/**
 * The losses on plain numbers, for use without a run: notebooks, tests, other trainers. They evaluate the functions
 * that the training graphs are traced from, in float32: results agree with float64 to about 1e-6 relative.
 */
import * as tf from "../tensor/tfjs.js";
import { type Aggregation, aggregate, parseAggregation } from "./aggregation.js";
import { divergence, sampledTokenDistillation, topkBins } from "./distillation.js";
import { onCpu } from "./eager.js";
import { truncatedImportance } from "./importance.js";
import { logProbsAt, logSoftmax, tokenLogProbs, topIndices } from "./log-probs.js";
import { clippedPolicyLoss } from "./policy-gradient.js";

type Matrix = readonly (readonly number[])[];

export interface DistillationInputs {
  /** [T][V] logits of the policy, which saw the bare prompt. */
  readonly studentLogits: Matrix;
  /** [T][V] logits of the self-teacher at the same tokens. */
  readonly teacherLogits: Matrix;
  /** [T] 1 where the loss counts; default: everywhere. */
  readonly mask?: readonly number[];
  /** 0 KL(teacher || student), 1 KL(student || teacher), between: Jensen-Shannon. Default 0.5. */
  readonly alpha?: number;
  /** Compare at the student's k likeliest tokens; null (default): the whole vocabulary. */
  readonly topk?: number | null;
  /** In top-k mode: one more bin for the rest (default), or rescale the k to sum to 1. */
  readonly tail?: boolean;
  /** [T] the sampled tokens; needed by `oldLogProbs` and `sampledTokenOnly`. */
  readonly sampledIds?: readonly number[];
  /** [T] log-probabilities of the sampled tokens before the update: weighs each token by the truncated ratio. */
  readonly oldLogProbs?: readonly number[];
  /** Where that ratio is truncated. Default 2. */
  readonly importanceClip?: number;
  /** [T] further weights, e.g. truncated importance of the sampler. */
  readonly weights?: readonly number[];
  /** Score-function estimate from the sampled token; needs alpha 1. */
  readonly sampledTokenOnly?: boolean;
}

/**
 * SDPO's distillation loss of one sequence.
 * @returns perToken [T], weighted but not masked; loss: their mean over the mask, 0 when the mask is empty
 * @throws RangeError when shapes do not match
 */
export function distillationLoss(inputs: DistillationInputs): { perToken: number[]; loss: number } {
  const tokens = inputs.studentLogits.length;
  const mask = inputs.mask ?? new Array<number>(tokens).fill(1);
  requireLength("teacherLogits", inputs.teacherLogits, tokens);
  requireLength("mask", mask, tokens);
  for (const row of [...inputs.studentLogits, ...inputs.teacherLogits])
    requireLength("a row of logits", row, inputs.studentLogits[0]!.length);
  if (tokens === 0) return { perToken: [], loss: 0 };
  const perToken = onCpu(() => Array.from(distillationPerToken(inputs).dataSync()));
  return { perToken, loss: aggregate([perToken], [mask], "token-mean") };
}

function distillationPerToken(inputs: DistillationInputs): tf.Tensor1D {
  const student = tf.tensor2d(inputs.studentLogits as number[][]);
  const teacher = tf.tensor2d(inputs.teacherLogits as number[][]);
  const tokens = student.shape[0];
  const { alpha = 0.5, topk = null, tail = true, importanceClip = 2 } = inputs;
  const sampledLogProbs = (logits: tf.Tensor2D): tf.Tensor1D => {
    requireLength("sampledIds", inputs.sampledIds ?? [], tokens);
    return tokenLogProbs(logits, tf.tensor1d(inputs.sampledIds as number[], "int32"));
  };
  let perToken: tf.Tensor1D;
  if (inputs.sampledTokenOnly) {
    if (alpha !== 1)
      throw new RangeError("sampledTokenOnly estimates KL(student || teacher): it needs alpha 1");
    perToken = sampledTokenDistillation(sampledLogProbs(student), sampledLogProbs(teacher));
  } else if (topk === null) {
    perToken = divergence(logSoftmax(student), logSoftmax(teacher), alpha);
  } else {
    if (!(Number.isInteger(topk) && topk > 0))
      throw new RangeError(`topk is ${topk}, need 1 or more, or null`);
    const indices = topIndices(student, topk);
    const bins = (logits: tf.Tensor2D): tf.Tensor2D => topkBins(logProbsAt(logits, indices), tail);
    perToken = divergence(bins(student), bins(teacher), alpha);
  }
  if (inputs.oldLogProbs) {
    requireLength("oldLogProbs", inputs.oldLogProbs, tokens);
    const old = tf.tensor1d(inputs.oldLogProbs as number[]);
    perToken = tf.mul(perToken, truncatedImportance(sampledLogProbs(student), old, importanceClip));
  }
  if (inputs.weights) {
    requireLength("weights", inputs.weights, tokens);
    perToken = tf.mul(perToken, tf.tensor1d(inputs.weights as number[]));
  }
  return perToken;
}

export interface PolicyGradientInputs {
  /** [B][T] log-probabilities of the sampled tokens under the weights in training. */
  readonly logProbs: Matrix;
  /** [B][T] the same before the update. */
  readonly oldLogProbs: Matrix;
  /** [B][T] */
  readonly advantages: Matrix;
  /** [B][T] 1 where the loss counts; default: everywhere. */
  readonly mask?: Matrix;
  /** Default 0.2. */
  readonly clipLow?: number;
  /** Default 0.28 (clip-higher). */
  readonly clipHigh?: number;
  /** Default 3; null: no dual clip. */
  readonly dualClip?: number | null;
  /** Default token-mean; names with underscores are taken too. */
  readonly aggregation?: Aggregation | "token_mean" | "per_sequence";
  /** [B][T] truncated importance weights of the sampler. */
  readonly weights?: Matrix;
}

/**
 * PPO's clipped policy-gradient loss of a batch.
 * @returns loss; perToken [B][T], weighted but not masked; clipFraction: share of masked-in tokens whose gradient was
 * clipped away; kl: mean of oldLogProbs - logProbs over the mask
 * @throws RangeError when shapes do not match
 */
export function policyGradientLoss(inputs: PolicyGradientInputs): {
  loss: number;
  clipFraction: number;
  kl: number;
  perToken: number[][];
} {
  const { logProbs, oldLogProbs, clipLow = 0.2, clipHigh = 0.28, dualClip = 3 } = inputs;
  const mask = inputs.mask ?? logProbs.map((row) => row.map(() => 1));
  const length = logProbs[0]?.length ?? 0;
  const matrices = {
    oldLogProbs,
    advantages: inputs.advantages,
    mask,
    ...optional("weights", inputs.weights),
  };
  for (const row of logProbs) requireLength("a row of logProbs", row, length);
  for (const [name, matrix] of Object.entries(matrices)) {
    requireLength(name, matrix, logProbs.length);
    for (const row of matrix) requireLength(`a row of ${name}`, row, length);
  }
  if (length === 0) return { loss: 0, clipFraction: 0, kl: 0, perToken: [] };
  const { perToken, isClipped } = onCpu(() => {
    const matrix = (rows: Matrix): tf.Tensor2D => tf.tensor2d(rows as number[][]);
    const options = { clipLow, clipHigh, dualClip };
    const parts = clippedPolicyLoss(
      matrix(logProbs),
      matrix(oldLogProbs),
      matrix(inputs.advantages),
      options,
    );
    const weighted = inputs.weights ? tf.mul(parts.perToken, matrix(inputs.weights)) : parts.perToken;
    return { perToken: weighted.arraySync() as number[][], isClipped: parts.isClipped.arraySync() };
  });
  const gap = logProbs.map((row, b) => row.map((value, t) => oldLogProbs[b]![t]! - value));
  return {
    loss: aggregate(perToken, mask, parseAggregation(inputs.aggregation ?? "token-mean")),
    clipFraction: aggregate(isClipped, mask, "token-mean"),
    kl: aggregate(gap, mask, "token-mean"),
    perToken,
  };
}

function optional(name: string, matrix: Matrix | undefined): Record<string, Matrix> {
  return matrix ? { [name]: matrix } : {};
}

function requireLength(name: string, list: readonly unknown[], length: number): void {
  if (list.length !== length) throw new RangeError(`${name} has ${list.length} entries, need ${length}`);
}
