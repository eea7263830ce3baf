/** A small assembler of WebAssembly: kernels whose loops JavaScript's one number at a time makes slow, and no graph needs. */

export type Code = readonly number[];

/** A number as WebAssembly writes it: seven bits a byte, the lowest first. */
export const leb = (value: number): Code =>
  value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)];

const list = (items: readonly Code[]): Code => [...leb(items.length), ...items.flat()];
const sized = (bytes: Code): Code => [...leb(bytes.length), ...bytes];
const section = (id: number, bytes: Code): Code => [id, ...sized(bytes)];
const name = (text: string): Code => sized([...Buffer.from(text)]);

export const TYPES = { i32: 0x7f, f32: 0x7d, f64: 0x7c, v128: 0x7b } as const;
export type WasmType = keyof typeof TYPES;

/** An instruction on vectors, after its operands. */
export const simd = (opcode: number, ...immediates: Code): Code => [0xfd, ...leb(opcode), ...immediates];
export const get = (local: number): Code => [0x20, ...leb(local)];
export const set = (local: number, value: Code): Code => [...value, 0x21, ...leb(local)];
export const binary =
  (...instruction: Code) =>
  (a: Code, b: Code): Code => [...a, ...b, ...instruction];
export const unary =
  (...instruction: Code) =>
  (x: Code): Code => [...x, ...instruction];

/** Where a vector is read or written beside an address on the stack: aligned to 16 bytes, `offset` bytes on. */
export const aligned = (offset: number): Code => [4, ...leb(offset)];

/** One function that works on a memory of its own. */
export interface KernelCode {
  readonly parameters: readonly WasmType[];
  readonly result: WasmType;
  /** After the parameters, [how many, of which type]. */
  readonly locals: readonly (readonly [number, WasmType])[];
  readonly body: Code;
  /** Of 64 KiB. */
  readonly pages: number;
}

export interface Kernel {
  /** Grows; what was a view of it before is then empty. */
  readonly memory: { readonly buffer: ArrayBuffer; grow(pages: number): number };
  readonly call: (...values: number[]) => number;
}

/** Of the standard global, what is used here; its types come with those of browsers. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

/** Makes the function callable. */
export function makeKernel({ parameters, result, locals, body, pages }: KernelCode): Kernel {
  const types = (of: readonly WasmType[]): Code => list(of.map((type) => [TYPES[type]]));
  const header = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  const code = [...list(locals.map(([count, type]) => [...leb(count), TYPES[type]])), ...body, 0x0b];
  const bytes = Uint8Array.from([
    ...header,
    ...section(1, list([[0x60, ...types(parameters), ...types([result])]])),
    ...section(3, list([[0]])),
    ...section(5, list([[0, ...leb(pages)]])),
    ...section(
      7,
      list([
        [...name("memory"), 2, 0],
        [...name("call"), 0, 0],
      ]),
    ),
    ...section(10, list([sized(code)])),
  ]);
  return new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports as Kernel;
}
