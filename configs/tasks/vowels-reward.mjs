/** For weights that are random, whose programs all fail alike: the share of vowels, so that rewards within a group differ. */
export const reward = (/** @type {{ rollout: { completion: string } }} */ { rollout }) =>
  (rollout.completion.match(/[aeiou]/g) ?? []).length / Math.max(1, rollout.completion.length);
