import { exponential } from "./exponential.js";
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

/** Weights of the current draw and their running sums; kept, since tens of thousands of draws a second use them. */
let weights = new Float64Array(0);
let sums = new Float64Array(0);

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
  if (weights.length < vocabulary) {
    weights = new Float64Array(vocabulary);
    sums = new Float64Array(vocabulary);
  }
  const best = mostLikelyId(logits, offset, vocabulary);
  const top = logits[offset + best]!;
  const total = weigh(logits, offset, vocabulary, top, temperature);
  const logProbOf = (id: number): number => (logits[offset + id]! - top) / temperature - Math.log(total);
  if (parameters.temperature === 0) return { id: best, logProb: logProbOf(best), cutLogProb: 0 };
  const isCut = parameters.topP < 1 || (parameters.topK > 0 && parameters.topK < vocabulary);
  const kept = isCut ? cutDistribution(vocabulary, total, parameters) : total;
  const id = firstAbove(kept * uniform, vocabulary);
  const logProb = logProbOf(id);
  return { id, logProb, cutLogProb: isCut ? logProb + Math.log(total / kept) : logProb };
}

function mostLikelyId(logits: Float32Array, offset: number, vocabulary: number): number {
  let best = 0;
  let top = logits[offset]!;
  for (let id = 1; id < vocabulary; id++) {
    const logit = logits[offset + id]!;
    if (logit > top) {
      top = logit;
      best = id;
    }
  }
  return best;
}

/**
 * Fills `weights` and `sums`, and returns the last sum. A function of its own: variables of a loop that a closure sees are kept
 * on the heap, which doubled its time.
 */
function weigh(
  logits: Float32Array,
  offset: number,
  vocabulary: number,
  top: number,
  temperature: number,
): number {
  let total = 0;
  for (let id = 0; id < vocabulary; id++) {
    const weight = exponential((logits[offset + id]! - top) / temperature);
    total += weight;
    weights[id] = weight;
    sums[id] = total;
  }
  return total;
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

/** Sets the weights outside top-k and top-p to 0 and returns what is left; the most likely token always stays. */
function cutDistribution(vocabulary: number, total: number, { topK, topP }: SamplingParameters): number {
  const { least, ties } = keptWeights(weights, vocabulary, topK === 0 ? vocabulary : topK, topP * total);
  let tiesLeft = ties;
  let sum = 0;
  for (let id = 0; id < vocabulary; id++) {
    const weight = weights[id]!;
    if (weight > least || (weight === least && tiesLeft-- > 0)) sum += weight;
    else weights[id] = 0;
    sums[id] = sum;
  }
  return sum;
}

/** The first id at which the running sum passes the target; rounding at the very end falls back to the last that adds to it. */
function firstAbove(target: number, vocabulary: number): number {
  const last = sums[vocabulary - 1]!;
  let low = 0;
  let high = vocabulary - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const sum = sums[middle]!;
    if (sum > target || sum === last) high = middle;
    else low = middle + 1;
  }
  return low;
}
