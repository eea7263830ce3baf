/** Text of programs on a page. */

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
/** Characters that turn the reading direction: text that holds them reads as what it is not. */
const BIDIRECTIONAL = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/**
 * For HTML. Text of programs is hostile: nothing of it may become markup, and nothing in it may be invisible.
 */
export const escaped = (text: string): string =>
  text
    .replaceAll("\r\n", "\n")
    .replace(/[&<>"']/g, (mark) => ENTITIES[mark]!)
    .replace(CONTROL, (mark) =>
      mark === "\x7f" ? "\u2421" : String.fromCharCode(0x2400 + mark.charCodeAt(0)),
    )
    .replace(
      BIDIRECTIONAL,
      (mark) => `[U+${mark.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`,
    );
