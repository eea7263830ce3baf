/** One cache tensor [N, C, E] in an array whose C changes: one row for each key/value head of each slot. */
export interface SlotRows {
  /** Current C. */
  readonly length: number;
  /** The elements as the graph reads them, N x C x E. */
  data(): Float32Array;
  /** Another C, in place where there is room: every row keeps its first `used` entries, as far as they fit. */
  resize(length: number, used: number): void;
  /** Entries [n, E] of a row from position 0 on. */
  write(row: number, entries: Float32Array): void;
  /** One entry for each row of the first slots, as many as there are positions: `entries` [n, E], at its slot's position. */
  writeColumn(entries: Float32Array, positions: Int32Array, rowsPerSlot: number): void;
}

/** @param length - C to begin with; memory grows with the longest C so far */
export function createSlotRows(rows: number, length: number, width: number): SlotRows {
  let all = new Float32Array(rows * length * width);
  /** Rows of `from` elements become rows of `to`, of which the first `kept` are the old ones. */
  const move = (from: number, to: number, kept: number): void => {
    if (rows * to > all.length) {
      const old = all;
      all = new Float32Array(rows * to);
      for (let row = 0; row < rows; row++) all.set(old.subarray(row * from, row * from + kept), row * to);
      return;
    }
    // Growing rows move up, so the last goes first; shrinking ones move down.
    if (to > from)
      for (let row = rows - 1; row > 0; row--) all.copyWithin(row * to, row * from, row * from + kept);
    if (to < from)
      for (let row = 1; row < rows; row++) all.copyWithin(row * to, row * from, row * from + kept);
  };
  return {
    get length() {
      return length;
    },
    data: () => all.subarray(0, rows * length * width),
    resize: (next, used) => {
      const [from, to] = [length * width, next * width];
      move(from, to, Math.min(used * width, from, to));
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
