import { BLOCK, type Weighed, weigh } from "./draw-kernel.js";
import { keptWeights } from "./kept-weights.js";

/** How the next token is drawn. */
export interface SamplingParameters {
  /** 0 is greedy; log-probabilities are then taken at temperature 1. */
  readonly temperature: number;
  /** Smallest set of most likely tokens whose probability reaches this; 1 cuts nothing. */
  readonly topP: number;
  /** Keep the k most likely tokens; 0 keeps all. */
  readonly topK: number;
}

/** A drawn token with its natural log-probabilities: of the whole distribution, and after top-k/top-p cut it. */
export interface DrawnToken {
  readonly id: number;
  readonly logProb: number;
  readonly cutLogProb: number;
}

/** A token that might have been drawn, with its natural log-probability before any cut. */
export interface Alternative {
  readonly id: number;
  readonly logProb: number;
}

/** A token as it was drawn. */
export interface StreamedToken extends DrawnToken {
  /** Most likely first; there when the request asks for any. */
  readonly alternatives?: readonly Alternative[];
}

/** How one slot draws its next token. */
export interface SlotDraw extends SamplingParameters {
  /** In [0, 1): the number that fixes the draw. */
  readonly uniform: number;
  /** Most likely tokens to give beside the drawn one. */
  readonly alternatives: number;
}

/**
 * Draws one token. Sums run in float64 over float32 logits, so the draw does not depend on the vocabulary's order of
 * addition in some kernel; ties between equal logits go to the smaller id.
 * @param logits - of length V, starting at `offset`
 * @param uniform - in [0, 1); the draw is the inverse of the cumulative distribution at it
 */
export function drawToken(
  logits: Float32Array,
  offset: number,
  vocabulary: number,
  parameters: SamplingParameters,
  uniform: number,
): DrawnToken {
  const temperature = parameters.temperature === 0 ? 1 : parameters.temperature;
  const row = logits.subarray(offset, offset + vocabulary);
  const weighed = weigh(row, temperature);
  const { top, total } = weighed;
  const logProbOf = (id: number): number => (row[id]! - top) / temperature - Math.log(total);
  if (parameters.temperature === 0) {
    const best = Math.max(0, row.indexOf(top));
    return { id: best, logProb: logProbOf(best), cutLogProb: 0 };
  }
  const isCut = parameters.topP < 1 || (parameters.topK > 0 && parameters.topK < vocabulary);
  if (!isCut) {
    const id = firstAbove(total * uniform, weighed, vocabulary);
    const logProb = logProbOf(id);
    return { id, logProb, cutLogProb: logProb };
  }
  const { id, kept } = drawOfKept(weighed.weights, vocabulary, total, parameters, uniform);
  const logProb = logProbOf(id);
  return { id, logProb, cutLogProb: logProb + Math.log(total / kept) };
}

/** The first id at which the running sum passes the target; rounding at the very end falls back to the last that adds to it. */
function firstAbove(target: number, { weights, sums, total }: Weighed, vocabulary: number): number {
  let low = 0;
  let high = Math.ceil(vocabulary / BLOCK) - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const sum = sums[middle + 1]!;
    if (sum > target || sum === total) high = middle;
    else low = middle + 1;
  }
  const last = Math.min(vocabulary, (low + 1) * BLOCK) - 1;
  let sum = sums[low]!;
  for (let id = low * BLOCK; id < last; id++) {
    sum += weights[id]!;
    if (sum > target || sum === total) return id;
  }
  return last;
}

/** Draws the next token of a row of logits [rows, V]. */
export function drawSlot(
  logits: Float32Array,
  row: number,
  vocabulary: number,
  { alternatives: count, ...draw }: SlotDraw,
): StreamedToken {
  const drawn = drawToken(logits, row * vocabulary, vocabulary, draw, draw.uniform);
  if (count === 0) return drawn;
  return {
    ...drawn,
    alternatives: mostLikely(logits, row * vocabulary, vocabulary, count, drawn, draw.temperature),
  };
}

/**
 * The most likely tokens beside a drawn one, most likely first, ties to the smaller id; log-probabilities at the
 * temperature of the draw.
 */
function mostLikely(
  logits: Float32Array,
  offset: number,
  vocabulary: number,
  count: number,
  drawn: DrawnToken,
  temperature: number,
): Alternative[] {
  const best: number[] = [];
  for (let id = 0; count > 0 && id < vocabulary; id++) {
    const logit = logits[offset + id]!;
    if (best.length === count && !(logit > logits[offset + best.at(-1)!]!)) continue;
    let place = best.length;
    while (place > 0 && logit > logits[offset + best[place - 1]!]!) place--;
    best.splice(place, 0, id);
    if (best.length > count) best.pop();
  }
  const divisor = temperature === 0 ? 1 : temperature;
  const drawnLogit = logits[offset + drawn.id]!;
  return best.map((id) => ({
    id,
    logProb: drawn.logProb + (logits[offset + id]! - drawnLogit) / divisor,
  }));
}

/** Words that a cut may keep, and their weights; kept, since tens of thousands of draws a second use them. */
let candidates = new Int32Array(0);
let candidateWeights = new Float64Array(0);

/** Draws among the words that top-k and top-p keep, of the sum `kept`; the most likely one always stays. */
function drawOfKept(
  weights: Float64Array,
  vocabulary: number,
  total: number,
  { topK, topP }: SamplingParameters,
  uniform: number,
): { readonly id: number; readonly kept: number } {
  const count = findCandidates(weights, vocabulary, total, topP);
  const most = topK === 0 ? vocabulary : topK;
  const { least, ties } = keptWeights(candidateWeights, count, most, topP * total);
  let tiesLeft = ties;
  let stays = 0;
  let kept = 0;
  for (let at = 0; at < count; at++) {
    const weight = candidateWeights[at]!;
    if (!(weight > least || (weight === least && tiesLeft-- > 0))) continue;
    kept += weight;
    candidateWeights[stays] = weight;
    candidates[stays++] = candidates[at]!;
  }
  const target = kept * uniform;
  let sum = 0;
  for (let at = 0; at < stays; at++) {
    sum += candidateWeights[at]!;
    if (sum > target || sum === kept) return { id: candidates[at]!, kept };
  }
  return { id: 0, kept }; // nothing can be drawn: a policy whose logits are not finite
}

/**
 * Lists the words that can be among the kept: all words of less than half an even share of what top-p leaves out weigh together
 * less than half of it, so the others reach top-p without them. Of a trained policy's vocabulary that is nearly all.
 * @returns how many
 */
function findCandidates(weights: Float64Array, vocabulary: number, total: number, topP: number): number {
  if (candidates.length < vocabulary) {
    candidates = new Int32Array(vocabulary);
    candidateWeights = new Float64Array(vocabulary);
  }
  const floor = (0.5 * Math.max(0, 1 - topP) * total) / vocabulary;
  let count = 0;
  for (let id = 0; id < vocabulary; id++) {
    const weight = weights[id]!;
    if (!(weight > floor)) continue;
    candidates[count] = id;
    candidateWeights[count++] = weight;
  }
  return count;
}
