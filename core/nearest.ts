/** Edits (insert, delete, replace, swap of neighbours) that turn one word into another: optimal string alignment. */
export function editDistance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => [i, ...new Array<number>(b.length).fill(0)]);
  for (let j = 0; j <= b.length; j++) rows[0]![j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const replaced = rows[i - 1]![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(rows[i - 1]![j]! + 1, rows[i]![j - 1]! + 1, replaced);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, rows[i - 2]![j - 2]! + 1);
      }
      rows[i]![j] = best;
    }
  }
  return rows[a.length]![b.length]!;
}

/** camelCase, kebab-case and capitals are the usual slips; they cost nothing. */
const normalise = (word: string): string =>
  word
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replaceAll("-", "_")
    .toLowerCase();

/** The candidate most like a word, or null where none is near enough to be meant: a third of its letters, or a part of it. */
export function nearest(word: string, candidates: readonly string[]): string | null {
  const wanted = normalise(word);
  const scored = candidates.map((candidate) => {
    const distance = editDistance(wanted, normalise(candidate));
    const isPart = wanted.length > 2 && (candidate.includes(wanted) || wanted.includes(candidate));
    const limit = Math.max(1, Math.ceil(Math.max(wanted.length, candidate.length) / 3));
    return { candidate, distance, isNear: distance <= limit || isPart };
  });
  const near = scored.filter(({ isNear }) => isNear).sort((x, y) => x.distance - y.distance);
  return near[0]?.candidate ?? null;
}
