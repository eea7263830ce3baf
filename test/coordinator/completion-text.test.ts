import fc from "fast-check";
import { expect, test } from "vitest";
import { CompletionText } from "../../coordinator/serving/completion-text.js";
import { Gate } from "../../coordinator/serving/gate.js";

/** A token a byte, as byte-level tokenizers have them: what is no whole character decodes to U+FFFD. */
const bytes = { decode: (ids: readonly number[]): string => Buffer.from(ids).toString("utf8") };
const idsOf = (text: string): number[] => [...Buffer.from(text, "utf8")];

/** Pieces of a text, and the stop text that ended it. */
function written(
  text: string,
  stops: readonly string[] = [],
  keepsStop = false,
): { pieces: string[]; stop: string | null } {
  const writer = new CompletionText(bytes, stops, keepsStop);
  const pieces: string[] = [];
  for (const id of idsOf(text)) {
    const { text: piece, stop } = writer.push(id);
    pieces.push(piece);
    if (stop !== null) return { pieces, stop };
  }
  const { text: rest, stop } = writer.end();
  return { pieces: [...pieces, rest], stop };
}

const texts = fc.string({ unit: fc.constantFrom("a", "b", "\n", "é", "猫", "🙂") });
const stopLists = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "é"), minLength: 2, maxLength: 3 }), {
  minLength: 1,
  maxLength: 3,
});
const fewLetters = fc.string({ unit: fc.constantFrom("a", "b", "é"), minLength: 3, maxLength: 12 });

test("pieces are whole characters, and together they are the text", () =>
  fc.assert(
    fc.property(texts, (text) => {
      const { pieces } = written(text);
      expect(pieces.join("")).toBe(text);
      expect(pieces.filter((piece) => piece.includes("\uFFFD"))).toEqual([]);
    }),
  ));

test("a text ends before the first stop text in it, of which nothing was shown before", () =>
  fc.assert(
    fc.property(fewLetters, stopLists, fc.boolean(), (text, stops, keepsStop) => {
      const { pieces, stop } = written(text, stops, keepsStop);
      const at = stops.map((each) => text.indexOf(each)).filter((index) => index >= 0);
      if (at.length === 0) {
        expect([pieces.join(""), stop]).toEqual([text, null]);
        return;
      }
      // The stop text that is complete first decides; it is among those that stand in the text.
      expect(stop === null ? -1 : stops.indexOf(stop)).toBeGreaterThanOrEqual(0);
      const shown = pieces.join("");
      const whole = keepsStop ? shown : shown + stop!;
      expect(text.startsWith(whole)).toBe(true);
      const before = whole.slice(0, -1); // one character earlier no stop text was complete
      expect(stops.filter((each) => before.includes(each))).toEqual([]);
    }),
  ));

test("what may become a stop text is held back, and shown once it does not", () => {
  expect(written("xENENDy", ["END"])).toEqual({ pieces: ["x", "", "", "EN", "", ""], stop: "END" });
  expect(written("xEN", ["END"]).pieces).toEqual(["x", "", "", "EN"]);
});

test("whatever bytes come, no piece is half of a character, of which a client could make no UTF-8", () =>
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(0x80, 0x80, 0x80, 0xf0, 0x9f, 0x99, 0x82, 0x61), { maxLength: 40 }),
      (ids) => {
        const writer = new CompletionText(bytes, [], false);
        const pieces = [...ids.map((id) => writer.push(id).text), writer.end().text];
        // A half of a pair does not survive UTF-8.
        for (const piece of pieces) expect(Buffer.from(piece, "utf8").toString("utf8")).toBe(piece);
      },
    ),
    { examples: [[[...Array<number>(7).fill(0x80), 0xf0, 0x9f, 0x99, 0x82]]] },
  ));

test("bytes that are no character at all are shown as such, not held for ever", () => {
  const writer = new CompletionText(bytes, [], false);
  const shown = Array.from({ length: 20 }, () => writer.push(0xff).text).join("");
  expect(shown.length).toBeGreaterThan(0);
  expect(shown + writer.end().text).toBe("\uFFFD".repeat(20));
});

test("a gate: many together, one change alone, and who comes meanwhile waits for it", async () => {
  const gate = new Gate();
  const story: string[] = [];
  const leaveFirst = await gate.enter();
  const leaveSecond = await gate.enter();
  const change = gate.alone(async () => {
    story.push(`change with ${gate.inside} inside`);
  });
  const third = gate.enter().then((leave) => {
    story.push("third");
    leave();
  });
  leaveFirst();
  leaveFirst(); // twice does no harm
  await Promise.resolve();
  story.push("second leaves");
  leaveSecond();
  await Promise.all([change, third]);
  expect(story).toEqual(["second leaves", "change with 0 inside", "third"]);
  await expect(gate.alone(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
  (await gate.enter())();
  expect(gate.inside).toBe(0);
});
