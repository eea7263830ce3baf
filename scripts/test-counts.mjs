/**
 * Counts what `npm test` ran. A test file that cannot even be loaded, or a runner that fails without saying which test,
 * counts as one failure: a run that is not green never ends with "0 failed".
 * @param {{ numPassedTests: number, numFailedTests: number, numPendingTests: number, numTodoTests: number,
 *   testResults: { status: string, assertionResults: unknown[] }[] } | null} results vitest's JSON; null: it wrote none
 * @param {readonly boolean[]} gates checks other than tests @param {boolean} isGreen vitest's own exit status
 */
export function countTests(results, gates, isGreen) {
  const broken = (results?.testResults ?? []).filter(
    ({ status, assertionResults }) => status === "failed" && assertionResults.length === 0,
  ).length;
  const counted = (results?.numFailedTests ?? 0) + broken;
  return {
    passed: (results?.numPassedTests ?? 0) + gates.filter(Boolean).length,
    failed: Math.max(counted, isGreen ? 0 : 1) + gates.filter((gate) => !gate).length,
    skipped: (results?.numPendingTests ?? 0) + (results?.numTodoTests ?? 0),
  };
}
