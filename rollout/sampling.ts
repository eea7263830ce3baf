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
  let best = 0;
  for (let id = 1; id < vocabulary; id++) if (logits[offset + id]! > logits[offset + best]!) best = id;
  const top = logits[offset + best]!;
  const weights = new Float64Array(vocabulary);
  let total = 0;
  for (let id = 0; id < vocabulary; id++) {
    const weight = Math.exp((logits[offset + id]! - top) / temperature);
    weights[id] = weight;
    total += weight;
  }
  const logProbOf = (id: number): number => (logits[offset + id]! - top) / temperature - Math.log(total);
  if (parameters.temperature === 0) return { id: best, logProb: logProbOf(best), cutLogProb: 0 };
  const isCut = parameters.topP < 1 || (parameters.topK > 0 && parameters.topK < vocabulary);
  const kept = isCut ? cutDistribution(weights, total, parameters) : total;
  const id = inverseCumulative(weights, kept * uniform);
  const logProb = logProbOf(id);
  return { id, logProb, cutLogProb: isCut ? logProb + Math.log(total / kept) : logProb };
}

/** Sets the weights outside top-k and top-p to 0 and returns what is left; the most likely token always stays. */
function cutDistribution(weights: Float64Array, total: number, { topK, topP }: SamplingParameters): number {
  const order = Array.from(weights.keys()).sort((a, b) => weights[b]! - weights[a]! || a - b);
  let kept = 0;
  order.forEach((id, rank) => {
    const isKept = rank === 0 || ((topK === 0 || rank < topK) && kept < topP * total);
    if (isKept) kept += weights[id]!;
    else weights[id] = 0;
  });
  return kept;
}

/** The first id at which the running sum passes the target; rounding at the very end falls back to the last positive one. */
function inverseCumulative(weights: Float64Array, target: number): number {
  let sum = 0;
  let last = 0;
  for (let id = 0; id < weights.length; id++) {
    if (weights[id] === 0) continue;
    sum += weights[id]!;
    last = id;
    if (sum > target) return id;
  }
  return last;
}
