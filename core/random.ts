/**
 * Counter-based random numbers: each is a pure function of (seed, counters), so that any rollout can be replayed
 * alone and nothing depends on the order in which work finished.
 * @see Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": Philox 4x32-10
 */
const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57] as const;
const WEYL = [0x9e3779b9, 0xbb67ae85] as const;
const ROUNDS = 10;

/** High 32 bits of the product of two unsigned 32-bit integers, from 16-bit halves: without BigInt, which allocates. */
function multiplyHigh(a: number, b: number): number {
  const [aHigh, aLow, bHigh, bLow] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0;
}

/**
 * One Philox 4x32-10 block.
 * @param counter - four unsigned 32-bit integers
 * @param key - two unsigned 32-bit integers
 * @returns four unsigned 32-bit integers
 */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter.map((word) => word >>> 0) as [number, number, number, number];
  let [k0, k1] = [key[0] >>> 0, key[1] >>> 0];
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIERS[0], c0);
    const low0 = Math.imul(MULTIPLIERS[0], c0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIERS[1], c2);
    const low1 = Math.imul(MULTIPLIERS[1], c2) >>> 0;
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + WEYL[0]) >>> 0;
    k1 = (k1 + WEYL[1]) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** FNV-1a of a string's UTF-8 bytes: names a stream ("shuffle", a task id) as an unsigned 32-bit integer. */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text, "utf8")) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

/** A uniform number in [0, 1) with 53 bits, from a seed and up to three counters (integers, or names). */
export function uniformAt(seed: number, stream: string, a: number | string = 0, b = 0, c = 0): number {
  const first = typeof a === "string" ? hash32(a) : a;
  const [x, y] = philox([first, b, c, 0], [seed, hash32(stream)]);
  return ((x >>> 5) * 67108864 + (y >>> 6)) / 9007199254740992;
}

/** A sequential generator over one stream, for code that just needs many numbers. */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** Integer in [0, below). */
  integer(below: number): number;
  pick<T>(items: readonly T[]): T;
  /** Standard normal (Box-Muller). */
  normal(): number;
  /** A new array, Fisher-Yates. */
  shuffle<T>(items: readonly T[]): T[];
}

/** A sequential generator whose n-th number is `uniformAt(seed, stream, a, b, n)`. */
export function randomStream(seed: number, stream: string, a: number | string = 0, b = 0): Random {
  let count = 0;
  const next = (): number => uniformAt(seed, stream, a, b, count++);
  const integer = (below: number): number => Math.floor(next() * below);
  return {
    next,
    integer,
    pick: (items) => {
      if (items.length === 0) throw new RangeError("cannot pick from an empty list");
      return items[integer(items.length)]!;
    },
    normal: () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
    shuffle: (items) => {
      const out = [...items];
      for (let i = out.length - 1; i > 0; i--) {
        const j = integer(i + 1);
        [out[i], out[j]] = [out[j]!, out[i]!];
      }
      return out;
    },
  };
}
