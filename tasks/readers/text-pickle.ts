/**
 * LiveCodeBench's private tests: base64 of zlib of a pickled text. A pickle is a program, and none is run here: the few
 * bytes that Python writes around a single text are recognised, and anything else is refused.
 * @see pickletools.dis of pickle.dumps("text"), protocols 1 to 5
 */
import { inflateSync } from "node:zlib";
import { RowRefused } from "./refusals.js";
import { MAX_ROW_BYTES } from "./splitters.js";

const PROTO = 0x80;
const FRAME = 0x95;
const STOP = 0x2e;
/** Opcodes of a text, with the bytes of its length that follow. */
const TEXTS: Readonly<Record<number, number>> = { 140: 1, 88: 4, 141: 8 };
/** Opcodes that note the text for later use, with the bytes that follow: BINPUT, LONG_BINPUT, MEMOIZE. */
const NOTES: Readonly<Record<number, number>> = { 113: 1, 114: 4, 148: 0 };

const CONVERT =
  'convert it where you trust it: python3 -c \'import pickle,zlib,base64,json,sys; [print(json.dumps({**r, "private_test_cases": pickle.loads(zlib.decompress(base64.b64decode(r["private_test_cases"])))})) for r in map(json.loads, sys.stdin)]\'';

function refusePickle(what: string): never {
  throw new RowRefused(
    "unsupported",
    `private_test_cases: ${what}; a pickle is not run here. To read it, ${CONVERT}`,
  );
}

/** The text of a pickle that holds one text and does nothing else. @throws RowRefused for any other */
export function textOfPickle(bytes: Buffer): string {
  let at = 0;
  const take = (count: number): Buffer => {
    if (at + count > bytes.length) refusePickle("a pickle that is cut short");
    at += count;
    return bytes.subarray(at - count, at);
  };
  const opcode = (): number => take(1)[0]!;
  let code = opcode();
  if (code === PROTO) {
    take(1);
    code = opcode();
  }
  if (code === FRAME) {
    take(8);
    code = opcode();
  }
  const lengthBytes = TEXTS[code];
  if (lengthBytes === undefined) refusePickle(`a pickle of something other than a text (opcode ${code})`);
  const length =
    lengthBytes === 8 ? Number(take(8).readBigUInt64LE()) : take(lengthBytes).readUIntLE(0, lengthBytes);
  const text = take(length);
  code = opcode();
  const noteBytes = NOTES[code];
  if (noteBytes !== undefined) {
    take(noteBytes);
    code = opcode();
  }
  if (code !== STOP || at !== bytes.length) refusePickle("a pickle that does more than hold a text");
  return utf8(text);
}

function utf8(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new RowRefused("not_utf8", "private_test_cases: bytes that are not UTF-8");
  }
}

/**
 * The JSON text within base64 of zlib, pickled or not.
 * @throws RowRefused for text that is neither
 */
export function unpackedText(base64: string): string {
  if (!/^[A-Za-z0-9+/\s]+={0,2}\s*$/.test(base64)) {
    throw new RowRefused("wrong_shape", "private_test_cases: neither JSON nor base64");
  }
  let bytes: Buffer;
  try {
    bytes = inflateSync(Buffer.from(base64, "base64"), { maxOutputLength: MAX_ROW_BYTES });
  } catch (cause) {
    const isLarge = (cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE";
    if (isLarge) throw new RowRefused("too_large", "private_test_cases: unpacked, more than 500 MB");
    throw new RowRefused("wrong_shape", `private_test_cases: not zlib (${(cause as Error).message})`);
  }
  const isJson = bytes[0] === 0x5b || bytes[0] === 0x7b;
  return isJson ? utf8(bytes) : textOfPickle(bytes);
}
