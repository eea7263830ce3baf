/**
 * Unbiased estimate of the chance that at least one of k attempts passes, from n attempts of which c passed:
 * 1 - C(n - c, k) / C(n, k), as a product so that nothing overflows.
 * @see Chen et al. 2021, arXiv 2107.03374, section 2.1
 * @throws RangeError when k > n: fewer attempts than k say nothing about k
 */
export function passAtK(n: number, c: number, k: number): number {
  if (k > n || k < 1) throw new RangeError(`pass@${k} needs at least ${k} attempts, got ${n}`);
  let noneOfK = 1;
  for (let i = n - c + 1; i <= n; i++) noneOfK *= Math.max(0, 1 - k / i);
  return 1 - noneOfK;
}

/** Judged attempts of one task, and how many of them passed. */
export interface TaskCount {
  readonly judged: number;
  readonly passed: number;
}

/** Which k are reported unless asked otherwise; those above the fewest attempts of a task are left out. */
export const DEFAULT_KS: readonly number[] = [1, 2, 4, 5, 8, 10, 16, 32, 64, 100];

/**
 * pass@k averaged over tasks. A task without a judged attempt (infrastructure failed every time) is left out.
 * @returns {"pass@1": ...} for each k that every task has attempts for
 */
export function meanPassAtK(counts: readonly TaskCount[], ks: readonly number[]): Record<string, number> {
  const judged = counts.filter((count) => count.judged > 0);
  const fewest = Math.min(...judged.map((count) => count.judged));
  if (judged.length === 0) return {};
  return Object.fromEntries(
    ks
      .filter((k) => k <= fewest)
      .map((k) => {
        const sum = judged.reduce((total, count) => total + passAtK(count.judged, count.passed, k), 0);
        return [`pass@${k}`, sum / judged.length];
      }),
  );
}
