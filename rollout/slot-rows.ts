/** One cache tensor [N, C, E] in an array whose C changes: one row for each key/value head of each slot. */
export interface SlotRows {
  /** Current C. */
  readonly length: number;
  /** The elements as the graph reads them, N x C x E. */
  data(): Float32Array;
  /** Another C, in place: every row keeps its first `used` entries, as far as they fit. */
  resize(length: number, used: number): void;
  /** Entries [n, E] of a row from position 0 on. */
  write(row: number, entries: Float32Array): void;
  /** One entry for each row of the first slots, as many as there are positions: `entries` [n, E], at its slot's position. */
  writeColumn(entries: Float32Array, positions: Int32Array, rowsPerSlot: number): void;
}

export function createSlotRows(rows: number, longest: number, width: number): SlotRows {
  const all = new Float32Array(rows * longest * width);
  let length = longest;
  return {
    get length() {
      return length;
    },
    data: () => all.subarray(0, rows * length * width),
    resize: (next, used) => {
      const [from, to] = [length * width, next * width];
      const kept = Math.min(used * width, from, to);
      if (from === to) return;
      // Growing rows move up, so the last goes first; shrinking ones move down.
      if (to > from)
        for (let row = rows - 1; row > 0; row--) all.copyWithin(row * to, row * from, row * from + kept);
      if (to < from)
        for (let row = 1; row < rows; row++) all.copyWithin(row * to, row * from, row * from + kept);
      length = next;
    },
    write: (row, entries) => all.set(entries, row * length * width),
    writeColumn: (entries, positions, rowsPerSlot) => {
      let source = 0;
      for (let row = 0; row < positions.length * rowsPerSlot; row++) {
        const target = (row * length + positions[Math.floor(row / rowsPerSlot)]!) * width;
        for (let i = 0; i < width; i++) all[target + i] = entries[source++]!;
      }
    },
  };
}
