/**
 * Unbiased estimate of the chance that at least one of k attempts passes, from n attempts of which c passed:
 * 1 - C(n - c, k) / C(n, k), as a product so that nothing overflows.
 * @see Chen et al. 2021, arXiv 2107.03374, section 2.1
 * @throws RangeError when k > n: fewer attempts than k say nothing about k
 */
export function passAtK(n: number, c: number, k: number): number {
  checkAttempts("pass@", n, k);
  let noneOfK = 1;
  for (let i = n - c + 1; i <= n; i++) noneOfK *= Math.max(0, 1 - k / i);
  return 1 - noneOfK;
}

/**
 * Unbiased estimate of the chance that all of k attempts pass: C(c, k) / C(n, k).
 * @see Yao et al. 2024, arXiv 2406.12045, who call it pass^k
 * @throws RangeError when k > n
 */
export function passAllK(n: number, c: number, k: number): number {
  checkAttempts("pass^", n, k);
  let allOfK = 1;
  for (let i = 0; i < k; i++) allOfK *= Math.max(0, c - i) / (n - i);
  return allOfK;
}

function checkAttempts(name: string, n: number, k: number): void {
  if (k > n || k < 1) throw new RangeError(`${name}${k} needs at least ${k} attempts, got ${n}`);
}

/** Judged attempts of one task in one language, and how many of them passed. */
export interface TaskCount {
  readonly task: string;
  readonly judged: number;
  readonly passed: number;
}

/** Which k are reported unless asked otherwise; those above the fewest attempts of a task are left out. */
export const DEFAULT_KS: readonly number[] = [1, 2, 4, 5, 8, 10, 16, 32, 64, 100];

/** The k that every judged task has attempts for. A task without a judged attempt (infrastructure failed every time) is left out. */
export function reportedKs(counts: readonly TaskCount[], ks: readonly number[]): number[] {
  const judged = counts.filter((count) => count.judged > 0);
  const fewest = Math.min(...judged.map((count) => count.judged));
  return judged.length === 0 ? [] : ks.filter((k) => k <= fewest);
}
