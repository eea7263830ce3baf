/** How sure a pass rate is: 95% intervals over tasks. */

/** Quantile 0.975 of the standard normal distribution. */
const Z = 1.959964;

/** Lower and upper end, each in [0, 1]. */
export type Interval = readonly [number, number];

/**
 * Wilson's score interval of a proportion. It never leaves [0, 1] and keeps a width where nothing, or everything, passed.
 * @param n - trials behind it, above 0; need not be whole
 * @see Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22
 */
export function wilsonInterval(proportion: number, n: number): Interval {
  const z2 = Z * Z;
  const centre = (proportion + z2 / (2 * n)) / (1 + z2 / n);
  const half = (Z * Math.sqrt((proportion * (1 - proportion)) / n + z2 / (4 * n * n))) / (1 + z2 / n);
  // Where the proportion is 0 or 1 the end is exactly that; rounding must not put it a hair outside.
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/** A value in [0, 1] of one task in one language, and from how many judged programs it comes. */
export interface TaskValue {
  readonly task: string;
  readonly value: number;
  readonly programs: number;
}

/**
 * 95% interval of the mean of `values`, with tasks as the sampling unit: samples of one task, in whatever language, are not
 * independent. Wilson's interval at the effective sample size m(1 - m)/V, where V is the mean's variance clustered by task.
 * One program a task gives Wilson's own interval. Where all tasks agree on 0 or 1 there are as many trials as tasks; never
 * more than programs.
 * @throws RangeError without a value
 * @see Miller 2024, arXiv 2411.00640, for clustered variances in evaluations; Dean and Pagano 2015 (J. Survey Statistics and
 *   Methodology 3) for the effective sample size; docs/decisions/0005-intervals-over-tasks.md for the coverage measured
 */
export function clusteredInterval(values: readonly TaskValue[]): Interval {
  if (values.length === 0) throw new RangeError("an interval needs a value");
  const mean = values.reduce((sum, { value }) => sum + value, 0) / values.length;
  const deviations = new Map<string, number>();
  for (const { task, value } of values) deviations.set(task, (deviations.get(task) ?? 0) + value - mean);
  const squares = [...deviations.values()].reduce((sum, deviation) => sum + deviation ** 2, 0);
  const variance = squares / values.length ** 2;
  const programs = values.reduce((sum, each) => sum + each.programs, 0);
  const isUnanimous = mean <= 0 || mean >= 1;
  const trials = isUnanimous ? deviations.size : Math.min(programs, (mean * (1 - mean)) / variance);
  return wilsonInterval(mean, trials);
}
