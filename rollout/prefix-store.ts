/** Keys and values of prompt parts that several prompts begin with: a system prompt, the words before every task. */

/** One stored part: `C` tokens after the part before it. */
interface Part {
  readonly id: number;
  /** Per cache tensor, [K, C, E]. */
  readonly keyValues: readonly Float32Array[];
}

/** Where a prompt has got to: the part before the next one, 0 at its beginning. */
export type PartId = number;

export interface PrefixStore {
  /** The part of these tokens after the given one, when it is stored. */
  find(before: PartId, ids: readonly number[]): Part | undefined;
  /** Stores a part, and forgets those that were used longest ago, so that all stay below the store's size. */
  add(before: PartId, ids: readonly number[], keyValues: readonly Float32Array[]): PartId;
  /** Forgets everything: other weights give other keys and values. */
  clear(): void;
}

/**
 * Parts by the exact tokens that led to them: the key has the part before, whose key has the one before that.
 * @param bytes - of keys and values, at most
 */
export function createPrefixStore(bytes: number): PrefixStore {
  const parts = new Map<string, Part>(); // in order of use
  let used = 0;
  let count = 0;
  const keyOf = (before: PartId, ids: readonly number[]): string => `${before}:${ids.join()}`;
  const sizeOf = ({ keyValues }: Part): number => keyValues.reduce((sum, array) => sum + array.byteLength, 0);
  const touch = (key: string, part: Part): void => {
    parts.delete(key);
    parts.set(key, part);
  };
  const makeRoom = (): void => {
    for (const [key, part] of parts) {
      if (used <= bytes) return;
      parts.delete(key);
      used -= sizeOf(part);
    }
  };
  return {
    find: (before, ids) => {
      const key = keyOf(before, ids);
      const part = parts.get(key);
      if (part !== undefined) touch(key, part);
      return part;
    },
    add: (before, ids, keyValues) => {
      const part = { id: ++count, keyValues };
      parts.set(keyOf(before, ids), part);
      used += sizeOf(part);
      makeRoom();
      return part.id;
    },
    clear: () => {
      parts.clear();
      used = 0;
    },
  };
}
