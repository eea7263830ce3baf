import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ADVANTAGE_ESTIMATORS, groupAdvantages } from "../../trainer/index.js";
import { expectClose, vector } from "./vectors.js";

const FLOAT64 = 1e-12;
const columns = { grpo: "grpo_std", dr_grpo: "grpo_no_std", rloo: "rloo" } as const;

describe("SDPO's reference numbers", () => {
  test.each([
    { estimator: "grpo", key: "grpo_std" },
    { estimator: "dr_grpo", key: "grpo_no_std(dr_grpo)" },
    { estimator: "rloo", key: "rloo" },
  ] as const)("$estimator on the group [1, 0, 0, 1]", ({ estimator, key }) => {
    const rewards = vector<number[]>("advantages", "rewards");
    const groups = vector<string[]>("advantages", "group_ids");
    expectClose(groupAdvantages(rewards, groups, { estimator }), vector("advantages", key), FLOAT64);
  });

  for (const part of ["all_equal_group", "singleton_group", "two_groups"]) {
    test.each(ADVANTAGE_ESTIMATORS)(`%s on ${part.replaceAll("_", " ")}`, (estimator) => {
      const { rewards, group_ids } = vector<{ rewards: number[]; group_ids?: string[] }>("advantages", part);
      const groups = group_ids ?? rewards.map(() => "g");
      const want = vector<number[]>("advantages", part, columns[estimator]);
      expectClose(groupAdvantages(rewards, groups, { estimator }), want, FLOAT64);
    });
  }
});

describe("groupAdvantages", () => {
  const rewardLists = fc.array(fc.integer({ min: -8, max: 8 }), { minLength: 2, maxLength: 12 });
  const estimators = fc.constantFrom(...ADVANTAGE_ESTIMATORS);
  const oneGroup = (rewards: readonly unknown[]): number[] => rewards.map(() => 0);

  test("raising every reward equally moves no advantage", () =>
    fc.assert(
      fc.property(rewardLists, fc.integer({ min: -9, max: 9 }), estimators, (rewards, lift, estimator) => {
        const lifted = rewards.map((reward) => reward + lift);
        expectClose(
          groupAdvantages(lifted, oneGroup(rewards), { estimator }),
          groupAdvantages(rewards, oneGroup(rewards), { estimator }),
          1e-9,
        );
      }),
    ));

  test("the advantages of a group sum to zero", () =>
    fc.assert(
      fc.property(rewardLists, estimators, (rewards, estimator) => {
        const sum = groupAdvantages(rewards, oneGroup(rewards), { estimator }).reduce((a, b) => a + b, 0);
        expectClose(sum, 0, 1e-9);
      }),
    ));

  test("the order of a batch does not matter, nor which groups stand beside", () =>
    fc.assert(
      fc.property(rewardLists, rewardLists, estimators, (first, second, estimator) => {
        const alone = groupAdvantages(
          second,
          second.map(() => "b"),
          { estimator },
        );
        const both = groupAdvantages(
          [...first, ...second],
          [...first.map(() => "a"), ...second.map(() => "b")],
          { estimator },
        );
        expectClose(both.slice(first.length), alone, 1e-12);
      }),
    ));

  test("equal rewards give exactly zero, although their mean is rounded", () => {
    const tenths = [0.1, 0.1, 0.1];
    expect(tenths.reduce((a, b) => a + b, 0) / 3).not.toBe(0.1);
    for (const estimator of ADVANTAGE_ESTIMATORS)
      expect(groupAdvantages(tenths, [1, 1, 1], { estimator })).toEqual([0, 0, 0]);
  });

  test("rewards that differ by rounding only count as equal", () => {
    expect(groupAdvantages([0.1 + 0.2, 0.3], ["g", "g"], { estimator: "grpo" })).toEqual([0, 0]);
  });

  test("an infrastructure failure is left out of the mean and gets nothing", () => {
    expect(groupAdvantages([1, null, 0], ["g", "g", "g"], { estimator: "dr_grpo" })).toEqual([0.5, 0, -0.5]);
    expect(groupAdvantages([null, null], ["g", "g"], { estimator: "grpo" })).toEqual([0, 0]);
  });

  test.each([
    { name: "lists of different length", rewards: [1, 0], groups: ["g"], message: "2 rewards but 1 groups" },
    {
      name: "a reward that is not a number",
      rewards: [Number.NaN],
      groups: ["g"],
      message: "reward 0 is NaN, need a finite number or null",
    },
  ])("$name: a RangeError that says so", ({ rewards, groups, message }) => {
    expect(() => groupAdvantages(rewards, groups)).toThrow(new RangeError(message));
  });
});
