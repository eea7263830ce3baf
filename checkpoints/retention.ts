/**
 * Which checkpoints stay: the newest `keepLast` up to the step just saved, and the one with the highest score (the
 * earliest of equals). Steps after `newest` belong to a history that was cut back and go.
 * @param steps - ascending
 */
export function keptSteps(
  steps: readonly number[],
  rule: {
    readonly newest: number;
    readonly keepLast: number;
    readonly scores: ReadonlyMap<number, number>;
  },
): Set<number> {
  const valid = steps.filter((step) => step <= rule.newest);
  const kept = new Set(valid.slice(Math.max(0, valid.length - Math.max(1, rule.keepLast))));
  let best: number | undefined;
  for (const step of valid) {
    const score = rule.scores.get(step);
    if (score === undefined || Number.isNaN(score)) continue;
    if (best === undefined || score > rule.scores.get(best)!) best = step;
  }
  return best === undefined ? kept : kept.add(best);
}
