/**
 * The weights exp((logit - top) / temperature) of a vocabulary and their running sum, two words at a time in WebAssembly: a draw
 * takes one for each word. exp(x) = 2^(-n) 2^(-j / 64) exp(r) with a short series, since |r| <= ln 2 / 128: to (20 + |x|) 1e-16
 * relative; 0 below -700.
 */
import {
  aligned,
  binary,
  type Code,
  get,
  type Kernel,
  leb,
  makeKernel,
  set,
  simd,
  unary,
} from "../tensor/index.js";

/** Words between two running sums that are kept. */
export const BLOCK = 64;
const BLOCK_BYTES = 4 * BLOCK;

const STEPS = 64;
/** 2^(-j / STEPS). */
const FRACTIONS = Float64Array.from({ length: STEPS }, (_, j) => 2 ** (-j / STEPS));
/** ln 2 / STEPS in two parts: the high one has few enough bits that its multiples are exact. */
const HIGH = Math.fround(Math.LN2 / STEPS);
const LOW = Math.LN2 / STEPS - HIGH;

const vector = (bytes: ArrayBuffer): Code => simd(0x0c, ...new Uint8Array(bytes));
const doubles = (value: number): Code => vector(Float64Array.of(value, value).buffer);
const integer = (value: number): Code =>
  value < 64 ? [0x41, value] : [0x41, (value & 0x7f) | 0x80, value >>> 7]; // below 8192

const [add, sub] = [binary(...simd(0xf0)), binary(...simd(0xf1))];
const [mul, div] = [binary(...simd(0xf2)), binary(...simd(0xf3))];
const isLess = binary(...simd(0x49));
const andNot = binary(...simd(0x4f));
const truncate = unary(...simd(0xfc));
const fromIntegers = unary(...simd(0xfe));
const promote = unary(...simd(0x5f));
/** The larger of each four; where one is NaN, the first. */
const larger = binary(...simd(0xeb));
/** Four floats in another order. */
const shuffled = (x: Code, order: readonly number[]): Code => [
  ...[...x, ...x],
  ...simd(0x0d, ...order.flatMap((from) => [0, 1, 2, 3].map((byte) => 4 * from + byte))),
];
const [plus, shiftLeft, shiftRight] = [binary(0x6a), binary(0x74), binary(0x76)];
const and = binary(0x71);
const plusDouble = binary(0xa0);

const [BYTES, LOGITS, SUMS, TABLE, TEMPERATURE] = [0, 1, 2, 3, 4] as const;
const [AT, TOTAL] = [5, 6] as const;
const [TOP, DIVISOR, FOUR, X, K, R, SQUARE, WEIGHT] = [7, 8, 9, 10, 11, 12, 13, 14] as const;
/** Behind the fractions: where the largest logit is told. */
const TOP_PLACE = 8 * STEPS;

const loadFour: Code = [...plus(get(LOGITS), get(AT)), ...simd(0x00, ...aligned(0))];
const next: Code = set(AT, plus(get(AT), integer(16)));
const whileMore: Code = [...get(AT), ...get(BYTES), 0x49, 0x0d, 0];
const loop = (...body: readonly Code[]): Code => [0x03, 0x40, ...body.flat(), 0x0b];

const findTop: readonly Code[] = [
  set(TOP, vector(Float32Array.from({ length: 4 }, () => Number.NEGATIVE_INFINITY).buffer)),
  loop(set(TOP, larger(get(TOP), loadFour)), next, whileMore),
  set(TOP, larger(get(TOP), shuffled(get(TOP), [2, 3, 0, 1]))),
  set(TOP, larger(get(TOP), shuffled(get(TOP), [1, 0, 3, 2]))),
  [...get(TABLE), ...get(TOP), ...simd(0x5a, 2, ...leb(TOP_PLACE), 0)],
  set(TOP, promote(get(TOP))),
];

const fractionAt = (lane: number): Code =>
  plus(get(TABLE), shiftLeft(and([...get(K), ...simd(0x1b, lane)], integer(STEPS - 1)), integer(3)));
const fraction: Code = [...fractionAt(1), ...fractionAt(0), ...simd(0x5d, 3, 0), ...simd(0x57, 3, 0, 1)];
/** 2^-(K / 64), put together from its bits. */
const power: Code = [
  ...vector(BigInt64Array.of(1023n, 1023n).buffer),
  ...[...get(K), ...integer(6), ...simd(0xad), ...simd(0xc9)],
  ...simd(0xd1),
  ...[...integer(52), ...simd(0xcb)],
];
const square = get(SQUARE);
const series = add(
  doubles(1),
  add(
    get(R),
    mul(
      square,
      add(
        add(doubles(0.5), mul(get(R), doubles(1 / 6))),
        mul(square, add(doubles(1 / 24), mul(get(R), doubles(1 / 120)))),
      ),
    ),
  ),
);

/** Two of the four logits. */
const weighTwo = (two: Code, place: number): Code => [
  ...set(X, div(sub(promote(two), get(TOP)), get(DIVISOR))),
  ...set(K, truncate(sub(doubles(0.5), mul(get(X), doubles(STEPS / Math.LN2))))),
  ...set(R, fromIntegers(get(K))),
  ...set(R, add(add(get(X), mul(get(R), doubles(HIGH))), mul(get(R), doubles(LOW)))),
  ...set(SQUARE, mul(get(R), get(R))),
  ...set(WEIGHT, andNot(mul(mul(series, fraction), power), isLess(get(X), doubles(-700)))),
  ...[...shiftLeft(get(AT), integer(1)), ...get(WEIGHT), ...simd(0x0b, ...aligned(place))],
  ...[0, 1].flatMap((lane) => set(TOTAL, plusDouble(get(TOTAL), [...get(WEIGHT), ...simd(0x21, lane)]))),
];

const body: Code = [
  ...findTop.flat(),
  ...set(DIVISOR, [...get(TEMPERATURE), ...simd(0x14)]),
  ...set(AT, integer(0)),
  ...loop(
    loop(set(FOUR, loadFour), weighTwo(get(FOUR), 0), weighTwo(shuffled(get(FOUR), [2, 3, 0, 1]), 16), next, [
      ...and(get(AT), integer(BLOCK_BYTES - 1)),
      0x0d,
      0,
    ]),
    [...plus(get(SUMS), shiftRight(get(AT), integer(5))), ...get(TOTAL), 0x39, 3, 0],
    whileMore,
  ),
  ...get(TOTAL),
];

/** Of one row of logits; views of the kernel's memory, which the next row overwrites. */
export interface Weighed {
  /** The largest logit. */
  readonly top: number;
  /** exp((logit - top) / temperature), [V] and more. */
  readonly weights: Float64Array<ArrayBuffer>;
  /** Of all words before each block of 64, in their order, and at the end of all. */
  readonly sums: Float64Array;
  readonly total: number;
}

const PAGE = 65_536;
let kernel: Kernel | null = null;
/** Words that the memory has room for, and where they lie. */
let room = 0;
let weights = new Float64Array(0);
let logits = new Float32Array(0);
let sums = new Float64Array(0);
let table = new Float64Array(0);
let tops = new Float32Array(0);

/** Weights first: `keptWeights` reads them from the start of their buffer. */
function makeRoom(vocabulary: number): Kernel {
  kernel ??= makeKernel({
    parameters: ["i32", "i32", "i32", "i32", "f64"],
    result: "f64",
    locals: [
      [1, "i32"],
      [1, "f64"],
      [8, "v128"],
    ],
    body,
    pages: 1,
  });
  if (room >= vocabulary) return kernel;
  room = Math.ceil(vocabulary / BLOCK) * BLOCK;
  const blocks = room / BLOCK;
  const { memory } = kernel;
  const bytes = 12 * room + 8 * (blocks + 1) + 8 * STEPS + 16;
  memory.grow(Math.max(0, Math.ceil((bytes - memory.buffer.byteLength) / PAGE)));
  const { buffer } = memory;
  weights = new Float64Array(buffer, 0, room);
  logits = new Float32Array(buffer, 8 * room, room);
  sums = new Float64Array(buffer, 12 * room, blocks + 1);
  table = new Float64Array(buffer, sums.byteOffset + sums.byteLength, STEPS);
  tops = new Float32Array(buffer, table.byteOffset + TOP_PLACE, 1);
  table.set(FRACTIONS);
  return kernel;
}

/**
 * Weighs one row. Sums run in float64 in the words' order.
 * @param row - of logits, [V]
 */
export function weigh(row: Float32Array, temperature: number): Weighed {
  const vocabulary = row.length;
  const { call } = makeRoom(vocabulary);
  const blocks = Math.ceil(vocabulary / BLOCK);
  logits.set(row);
  logits.fill(Number.NEGATIVE_INFINITY, vocabulary, blocks * BLOCK);
  sums[0] = 0;
  const total = call(blocks * BLOCK_BYTES, logits.byteOffset, sums.byteOffset, table.byteOffset, temperature);
  return { top: tops[0]!, weights, sums, total };
}
