/** Every leaf of a configuration by its dotted path; an empty list or map is a leaf. */
export function leaves(value: unknown, path = ""): Map<string, string> {
  const isNested = typeof value === "object" && value !== null && Object.keys(value).length > 0;
  if (!isNested) return new Map(value === undefined ? [] : [[path, JSON.stringify(value)]]);
  const out = new Map<string, string>();
  for (const [key, inner] of Object.entries(value)) {
    for (const [at, text] of leaves(inner, path === "" ? key : `${path}.${key}`)) out.set(at, text);
  }
  return out;
}

/** What changed between two configurations, one sentence a key, sorted; sections named in `free` may differ. */
export function differences(before: unknown, now: unknown, free: readonly string[] = []): string[] {
  const [old, fresh] = [leaves(before), leaves(now)];
  const isFree = (key: string): boolean => free.some((path) => key === path || key.startsWith(`${path}.`));
  return [...new Set([...old.keys(), ...fresh.keys()])]
    .filter((key) => !isFree(key) && old.get(key) !== fresh.get(key))
    .sort()
    .map((key) => `${key} (${old.get(key) ?? "absent"} in the run, ${fresh.get(key) ?? "absent"} now)`);
}
