/**
 * AdamW on a block of a parameter's elements, four at a time: some sixty instructions of WebAssembly, put together here.
 * JavaScript's numbers are doubles and come one by one: 6 ns an element, and 2 by this. Each instruction rounds to float32,
 * as an op of a graph does, in the order of `adamw` and `averageTeacher`: a step gives the bits that their graph gives.
 */
import { aligned, binary, type Code, get, makeKernel, set, simd, unary } from "../tensor/index.js";

/** Elements of a block: its arrays stay in a core's second-level cache. */
export const BLOCK = 4096;

const ARRAYS = ["weights", "gradients", "moment1", "moment2", "teacher"] as const;
type BlockArray = (typeof ARRAYS)[number];

const SCALARS = [
  ...(["lr", "correction1", "correction2", "clip", "decay", "teacherRate"] as const),
  ...(["beta1", "rest1", "beta2", "rest2", "epsilon"] as const),
];
/** Rounded to float32 by the kernel. */
export type KernelScalars = Readonly<Record<(typeof SCALARS)[number], number>>;

export interface AdamwKernel {
  /** [BLOCK] each, where the kernel reads and writes; gradients are only read. */
  readonly arrays: Readonly<Record<BlockArray, Float32Array>>;
  /**
   * Steps the first elements of the arrays.
   * @param count - a multiple of four
   * @returns the sum of the squares of the new weights; NaN where one of the new moments is not finite
   */
  step(count: number, scalars: KernelScalars): number;
}

const [add, sub] = [binary(...simd(0xe4)), binary(...simd(0xe5))];
const [mul, div] = [binary(...simd(0xe6)), binary(...simd(0xe7))];
const [sqrt, splat, lowDoubles] = [unary(...simd(0xe3)), unary(...simd(0x13)), unary(...simd(0x5f))];
const [addDoubles, mulDoubles] = [binary(...simd(0xf0)), binary(...simd(0xf2))];
/** The upper two of four in the place of the lower. */
const upper = (local: number): Code => [
  ...[...get(local), ...get(local), ...simd(0x0d)],
  ...Array.from({ length: 16 }, (_, i) => 8 + (i % 8)),
];
const zero: Code = [...simd(0x0c), ...new Uint8Array(16)];

// Locals: the parameters, then these; a splat for each scalar.
const COUNT = 0;
const AT = 1 + SCALARS.length;
const SPLATS = AT + 1;
const [GRADIENT, MOMENT1, MOMENT2, WEIGHT, SQUARES, BROKEN] = Array.from(
  { length: 6 },
  (_, i) => SPLATS + SCALARS.length + i,
) as [number, number, number, number, number, number];

const scalar = (of: (typeof SCALARS)[number]): Code => get(SPLATS + SCALARS.indexOf(of));
const place = (of: BlockArray): Code => aligned(4 * BLOCK * ARRAYS.indexOf(of));
const load = (of: BlockArray): Code => [...get(AT), ...simd(0x00), ...place(of)];
const store = (of: BlockArray, value: Code): Code => [...get(AT), ...value, ...simd(0x0b), ...place(of)];

/** One turn of the loop: four elements. */
const turn: readonly Code[] = [
  set(GRADIENT, mul(load("gradients"), scalar("clip"))),
  set(MOMENT1, add(mul(load("moment1"), scalar("beta1")), mul(get(GRADIENT), scalar("rest1")))),
  set(
    MOMENT2,
    add(mul(load("moment2"), scalar("beta2")), mul(mul(get(GRADIENT), get(GRADIENT)), scalar("rest2"))),
  ),
  set(
    WEIGHT,
    sub(
      load("weights"),
      mul(
        scalar("lr"),
        add(
          div(
            mul(get(MOMENT1), scalar("correction1")),
            add(sqrt(mul(get(MOMENT2), scalar("correction2"))), scalar("epsilon")),
          ),
          mul(load("weights"), scalar("decay")),
        ),
      ),
    ),
  ),
  store("teacher", add(load("teacher"), mul(scalar("teacherRate"), sub(get(WEIGHT), load("teacher"))))),
  store("moment1", get(MOMENT1)),
  store("moment2", get(MOMENT2)),
  store("weights", get(WEIGHT)),
  ...[get(WEIGHT), upper(WEIGHT)].map((pair) =>
    set(SQUARES, addDoubles(get(SQUARES), mulDoubles(lowDoubles(pair), lowDoubles(pair)))),
  ),
  // 0 times what is not finite is NaN.
  set(BROKEN, add(get(BROKEN), mul(add(get(MOMENT1), get(MOMENT2)), zero))),
];

const [PLUS, LESS, ADD_F64, PROMOTE] = [0x6a, 0x49, 0xa0, 0xbb];
const lane = (local: number, opcode: number, index: number): Code => [...get(local), ...simd(opcode), index];

const body: Code = [
  ...SCALARS.flatMap((_, i) => set(SPLATS + i, splat(get(1 + i)))),
  ...[0x03, 0x40, ...turn.flat()], // do
  ...set(AT, [...get(AT), 0x41, 16, PLUS]),
  ...[...get(AT), ...get(COUNT), LESS, 0x0d, 0, 0x0b], // while AT < COUNT
  ...[...lane(SQUARES, 0x21, 0), ...lane(SQUARES, 0x21, 1), ADD_F64],
  ...[0, 1, 2, 3].flatMap((index) => [...lane(BROKEN, 0x1f, index), PROMOTE, ADD_F64]),
];

let made: AdamwKernel | undefined;

/** The kernel, of which all callers share one and its memory. */
export function adamwKernel(): AdamwKernel {
  if (made !== undefined) return made;
  const { memory, call } = makeKernel({
    parameters: ["i32", ...SCALARS.map(() => "f32" as const)],
    result: "f64",
    locals: [
      [1, "i32"],
      [SCALARS.length + 6, "v128"],
    ],
    body,
    pages: Math.ceil((4 * BLOCK * ARRAYS.length) / 65_536),
  });
  const arrays = Object.fromEntries(
    ARRAYS.map((key, i) => [key, new Float32Array(memory.buffer, 4 * BLOCK * i, BLOCK)]),
  ) as Record<BlockArray, Float32Array>;
  made = {
    arrays,
    step: (count, scalars) => call(4 * count, ...SCALARS.map((key) => scalars[key])),
  };
  return made;
}
