export const AGGREGATIONS = [
  "token-mean",
  "per-sequence",
  "seq-mean-token-mean",
  "seq-mean-token-sum",
  "seq-mean-token-sum-norm",
] as const;
/**
 * How per-token losses become one number:
 * - `token-mean`: mean over all masked-in tokens;
 * - `per-sequence`: mean over *all* sequences of each one's token mean; one with nothing masked in counts as 0;
 * - `seq-mean-token-mean`, `seq-mean-token-sum`: mean over the sequences that have tokens, of their token mean or sum;
 * - `seq-mean-token-sum-norm`: sum over everything, divided by the padded length (Dr. GRPO, arXiv 2503.20783).
 */
export type Aggregation = (typeof AGGREGATIONS)[number];

/** Accepts the names with underscores too, as YAML writes them. @throws RangeError for an unknown name */
export function parseAggregation(name: string): Aggregation {
  const found = AGGREGATIONS.find((aggregation) => aggregation === name.replaceAll("_", "-"));
  if (!found) throw new RangeError(`aggregation "${name}" is not one of ${AGGREGATIONS.join(", ")}`);
  return found;
}

/**
 * Weight of one token of each sequence, so that loss = sum over tokens of weight x mask x per-token loss. The weights
 * carry the whole batch's denominators: microbatches of any split add up to exactly the loss of the undivided batch.
 * @param tokens - [B] trained tokens of each sequence; 0 for a sequence that is masked out
 * @param paddedLength - T, for `seq-mean-token-sum-norm` only
 * @returns [B] 0 where there are no tokens
 */
export function sequenceWeights(
  tokens: readonly number[],
  aggregation: Aggregation,
  paddedLength = 1,
): number[] {
  const total = tokens.reduce((sum, count) => sum + count, 0);
  const occupied = tokens.filter((count) => count > 0).length;
  return tokens.map((count) => {
    if (count === 0) return 0;
    if (aggregation === "token-mean") return 1 / total;
    if (aggregation === "per-sequence") return 1 / (count * tokens.length);
    if (aggregation === "seq-mean-token-mean") return 1 / (count * occupied);
    if (aggregation === "seq-mean-token-sum") return 1 / occupied;
    return 1 / paddedLength;
  });
}

/** One number from per-token losses [B][T] under a mask [B][T] of 0 and 1; 0 when nothing is masked in. */
export function aggregate(
  losses: readonly (readonly number[])[],
  mask: readonly (readonly number[])[],
  aggregation: Aggregation,
): number {
  const tokens = mask.map((row) => row.reduce((sum, m) => sum + m, 0));
  const weights = sequenceWeights(tokens, aggregation, losses[0]?.length ?? 1);
  let loss = 0;
  losses.forEach((row, b) => {
    row.forEach((value, t) => {
      if (mask[b]![t]! !== 0) loss += weights[b]! * mask[b]![t]! * value;
    });
  });
  return loss;
}
