/** JSON of a stranger: checked for depth and for how many values it makes before anything is built from it. */
import { RequestError } from "./request-error.js";

const MAX_DEPTH = 32;
/** An empty object takes two bytes of a body and fifty-six of memory. */
const MAX_VALUES = 1_000_000;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

/**
 * What makes these bytes too costly to parse, or null. Texts are skipped at the speed of `indexOf`; whether the bytes are
 * JSON at all is the parser's business.
 */
export function jsonBomb(body: Buffer): string | null {
  let depth = 0;
  let values = 0;
  for (let at = 0; at < body.length; at++) {
    const byte = body[at]!;
    if (byte === QUOTE) at = endOfText(body, at);
    else if (byte === OPEN_LIST || byte === OPEN_OBJECT) {
      values++;
      if (++depth > MAX_DEPTH) return `more than ${MAX_DEPTH} levels deep`;
    } else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) depth--;
    else if (byte === COMMA) values++;
    if (values > MAX_VALUES) return `more than ${MAX_VALUES} values`;
  }
  return null;
}

/** Index of the quote that ends the text begun at `start`; the body's end when none does. */
function endOfText(body: Buffer, start: number): number {
  let at = start;
  for (;;) {
    at = body.indexOf(QUOTE, at + 1);
    if (at < 0) return body.length;
    let slashes = 0;
    while (body[at - 1 - slashes] === BACKSLASH) slashes++;
    if (slashes % 2 === 0) return at;
  }
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });

/** @throws RequestError 400: not UTF-8, not JSON, or too costly */
export function parseBody(body: Buffer): unknown {
  const bomb = jsonBomb(body);
  if (bomb !== null) throw new RequestError(400, "body", `The JSON body is refused: ${bomb}.`);
  try {
    return JSON.parse(decoder.decode(body)) as unknown;
  } catch (cause) {
    const why = cause instanceof SyntaxError ? cause.message : "it is not UTF-8";
    throw new RequestError(400, "body", `The body is not JSON: ${why.slice(0, 200)}`);
  }
}
