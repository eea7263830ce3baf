export const ADVANTAGE_ESTIMATORS = ["dr_grpo", "grpo", "rloo"] as const;
export type AdvantageEstimator = (typeof ADVANTAGE_ESTIMATORS)[number];

/** Keeps a group of almost equal rewards from exploding when it is divided by its spread. */
const SPREAD_FLOOR = 1e-6;
/** Rewards closer than this, relative to their size, differ by rounding only. */
const ROUNDING = 1e-12;

/**
 * Advantage of each rollout over its own group:
 * - `dr_grpo` (default): reward minus the group's mean;
 * - `grpo`: that, divided by (unbiased standard deviation + 1e-6);
 * - `rloo`: reward minus the mean of the *other* rewards.
 * A rollout alone in its group has nothing to be compared with and gets its reward (divided by 1 + 1e-6 in `grpo`).
 * @param rewards - [B]; null is an infrastructure failure: left out of its group's mean
 * @param groups - [B] the group of each reward, any order
 * @returns [B] 0 for a null reward; exactly 0 throughout a group of two or more whose rewards agree
 * @throws RangeError when the lists differ in length or a reward is not finite
 * @see GRPO arXiv 2402.03300; Dr. GRPO arXiv 2503.20783 on why the default does not divide; RLOO arXiv 2402.14740
 */
export function groupAdvantages(
  rewards: readonly (number | null)[],
  groups: readonly (string | number)[],
  options: { readonly estimator?: AdvantageEstimator } = {},
): number[] {
  const estimator = options.estimator ?? "dr_grpo";
  if (!ADVANTAGE_ESTIMATORS.includes(estimator))
    throw new RangeError(`estimator "${estimator}" is not one of ${ADVANTAGE_ESTIMATORS.join(", ")}`);
  if (rewards.length !== groups.length)
    throw new RangeError(`${rewards.length} rewards but ${groups.length} groups`);
  const known = new Map<string | number, number[]>();
  rewards.forEach((reward, i) => {
    if (reward === null) return;
    if (!Number.isFinite(reward))
      throw new RangeError(`reward ${i} is ${reward}, need a finite number or null`);
    const members = known.get(groups[i]!);
    if (members) members.push(reward);
    else known.set(groups[i]!, [reward]);
  });
  const baselines = new Map([...known].map(([group, members]) => [group, groupBaseline(members, estimator)]));
  return rewards.map((reward, i) => (reward === null ? 0 : baselines.get(groups[i]!)!(reward)));
}

/** Whether the rewards of one group agree up to rounding, so that comparing them teaches nothing. */
export function rewardsAgree(rewards: readonly number[]): boolean {
  const [low, high] = [Math.min(...rewards), Math.max(...rewards)];
  return high - low <= ROUNDING * Math.max(1, Math.abs(low), Math.abs(high));
}

function groupBaseline(
  rewards: readonly number[],
  estimator: AdvantageEstimator,
): (reward: number) => number {
  const count = rewards.length;
  if (count === 1) return (reward) => (estimator === "grpo" ? reward / (1 + SPREAD_FLOOR) : reward);
  if (rewardsAgree(rewards)) return () => 0;
  const mean = rewards.reduce((sum, reward) => sum + reward, 0) / count;
  if (estimator === "dr_grpo") return (reward) => reward - mean;
  if (estimator === "rloo") return (reward) => (count / (count - 1)) * (reward - mean);
  const squares = rewards.reduce((sum, reward) => sum + (reward - mean) ** 2, 0);
  const spread = Math.sqrt(squares / (count - 1)) + SPREAD_FLOOR;
  return (reward) => (reward - mean) / spread;
}
