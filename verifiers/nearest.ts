/** Edit distance (Levenshtein) between two words. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}

/** The candidate that was probably meant, if one is near: at most a third of its letters differ, and two at least may. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const ranked = candidates.map((name) => ({ name, far: distance(word.toLowerCase(), name.toLowerCase()) }));
  ranked.sort((a, b) => a.far - b.far);
  const best = ranked[0];
  return best && best.far <= Math.max(2, Math.floor(best.name.length / 3)) ? best.name : undefined;
}
