/** One suite that every kind of sandbox passes: hostile programs get an admissible verdict and leave nothing behind. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Task, Verdict } from "../../core/index.js";
import { createLocalPool, type LocalPool, type LocalPoolOptions } from "../../verifiers/index.js";
import { type Case, caseLanguages, GROUPS } from "./hostile.js";

export function taskOf(one: Case): Task {
  return {
    id: one.name,
    prompt: "",
    tests: (one.tests ?? [["", "ok"]]).map(([input, output]) => ({ input, output, visible: true })),
    comparator: "tokens",
    limits: one.limits ?? {},
  };
}

/** Statuses that this case may end in on this host. */
export function admissible(one: Case, hasCgroup: boolean): readonly string[] {
  const usual = typeof one.want === "string" ? [one.want] : one.want;
  return !hasCgroup && one.withoutCgroup ? one.withoutCgroup : usual;
}

/** Waits a little for processes that were killed a moment ago. */
export async function survivorsOf(pool: LocalPool): Promise<readonly number[]> {
  for (let tries = 0; tries < 1000 && (await pool.survivors()).length > 0; tries++) await sleep(20);
  return pool.survivors();
}

export function sandboxContract(name: string, options: Omit<LocalPoolOptions, "languages">): void {
  describe(name, () => {
    const isSupervised = options.mode !== "single";
    const verdicts = new Map<string, { verdict: Verdict; ms: number }>();
    let pool: LocalPool;

    beforeAll(async () => {
      pool = await createLocalPool({ languages: caseLanguages(), workers: 3, cache: false, ...options });
      const cases = Object.values(GROUPS)
        .flat()
        .filter((one) => isSupervised || !one.onlySupervisor);
      await Promise.all(
        cases.map(async (one) => {
          const verdict = await pool.verify({
            id: one.name,
            task: taskOf(one),
            language: one.language,
            program: one.program,
          });
          verdicts.set(one.name, {
            verdict,
            ms: verdict.tests.reduce((sum, outcome) => sum + outcome.time_ms, 0),
          });
        }),
      );
    }, 300_000);
    afterAll(() => pool.close());

    for (const [group, cases] of Object.entries(GROUPS)) {
      describe(group, () => {
        for (const one of cases) {
          const title = `${one.name}: ${admissible(one, true).join(" or ")}`;
          if (!isSupervised && one.onlySupervisor) {
            test.skip(`${title} (${one.onlySupervisor})`, () => {});
            continue;
          }
          test(title, () => {
            const { verdict, ms } = verdicts.get(one.name)!;
            const shown = { status: verdict.status, reason: verdict.reason, feedback: verdict.feedback };
            expect(admissible(one, pool.isolation.tree_memory_accounting), JSON.stringify(shown)).toContain(
              verdict.status,
            );
            if (one.passes !== undefined)
              expect([verdict.passed, verdict.status]).toEqual([one.passes, one.want]);
            if (one.never) expect(JSON.stringify(verdict)).not.toMatch(one.never);
            if (one.withinMs) expect(ms).toBeLessThan(one.withinMs);
          });
        }
      });
    }

    test("nothing survives: no process descends from the broker", async () => {
      expect(await survivorsOf(pool)).toEqual([]);
    });
  });
}
