/** Cutting texts to budgets: never through a character of two code units, and never over the budget. */

/** The place at or before `at` that is not inside a surrogate pair. */
function boundary(text: string, at: number): number {
  const isInside = /[\ud800-\udbff]/.test(text[at - 1] ?? "") && /[\udc00-\udfff]/.test(text[at] ?? "");
  return isInside ? at - 1 : at;
}

export function cutEnd(text: string, chars: number): string {
  return text.length <= chars ? text : text.slice(0, boundary(text, chars));
}

/** Cuts the middle out of a text longer than `chars`: its beginning and its end say most. The mark counts. */
export function cutMiddle(text: string, chars: number): string {
  if (text.length <= chars) return text;
  const mark = (cut: number) => `\n... (${cut} characters cut) ...\n`;
  const kept = chars - mark(text.length).length;
  if (kept < 2) return cutEnd(text, chars);
  const head = boundary(text, Math.ceil(kept / 2));
  const tail = text.length - Math.floor(kept / 2);
  const end = boundary(text, tail) === tail ? tail : tail + 1;
  return `${text.slice(0, head)}${mark(end - head)}${text.slice(end)}`;
}

/** A UTF-8 character has no more bytes. */
const CHARACTER_BYTES = 4;

/**
 * The text of an output, its middle cut out where it is longer than `chars`. Of a long one only the ends are decoded, and
 * the result stands alone: a slice would keep the whole output in memory.
 */
export function keptText(bytes: Buffer, chars: number): string {
  if (bytes.length <= chars) return bytes.toString("utf8");
  const margin = chars * CHARACTER_BYTES;
  if (bytes.length <= 2 * margin) return Buffer.from(cutMiddle(bytes.toString("utf8"), chars)).toString();
  const mark = `\n... (about ${bytes.length - chars} bytes cut) ...\n`;
  const half = Math.floor((chars - mark.length) / 2);
  if (half < 1) return "";
  const [head, end] = [bytes.subarray(0, margin), bytes.subarray(-margin)].map((part) =>
    part.toString("utf8"),
  );
  const tail = end!.length - half;
  const start = boundary(end!, tail) === tail ? tail : tail + 1;
  return Buffer.from(`${cutEnd(head!, half)}${mark}${end!.slice(start)}`).toString();
}

/** A heading, and what stands under it. */
export interface Block {
  readonly title: string;
  readonly body?: string;
}

/**
 * Blocks with a blank line between, within `chars`: the longest bodies lose their middles, no shorter than the next
 * longest, so that a long input never costs the message below it.
 */
export function fitBlocks(blocks: readonly Block[], chars: number): string {
  const written = (body: (text: string) => string) =>
    blocks
      .map((block) => (block.body === undefined ? block.title : `${block.title}\n${body(block.body)}`))
      .join("\n\n")
      .trimEnd();
  let room = chars - written(() => "").length - blocks.length; // trimEnd may have taken line ends
  let cap = 0;
  let left = blocks.length;
  for (const length of blocks.map(({ body = "" }) => body.length).sort((a, b) => a - b)) {
    cap = Math.max(0, Math.floor(room / left--));
    if (length > cap) break;
    room -= length;
  }
  const text = written((body) => body);
  return text.length <= chars
    ? text
    : cutEnd(
        written((body) => cutMiddle(body, cap)),
        chars,
      );
}
