/**
 * The arena that ONNX Runtime keeps a graph's results in, without their bytes: how much memory a sequence of results touches.
 * Its rules (onnxruntime/core/framework/bfc_arena.cc): the smallest free chunk that fits; it is cut where twice the size is
 * there, or 128 MB would be left; neighbours that are free become one; where none fits, another region, each twice the last.
 */

const [ALIGNMENT, FIRST_REGION, MOST_DEAD] = [256, 2 ** 20, 128 * 2 ** 20];
/** What is looked at as touched or not: sixteen pages. */
const GRAIN = 2 ** 16;

/** Bytes of a region that are one result's, or nobody's. */
export interface Chunk {
  readonly touched: Uint8Array;
  readonly start: number;
  size: number;
  isFree: boolean;
  before: Chunk | null;
  after: Chunk | null;
}

export class Arena {
  /** In the order of their addresses. */
  private readonly free: Chunk[] = [];
  private readonly regions: Uint8Array[] = [];
  private region = FIRST_REGION;

  /** Bytes written to since the beginning: those that it keeps. */
  touchedBytes(): number {
    return GRAIN * this.regions.reduce((sum, grains) => sum + grains.reduce((a, b) => a + b, 0), 0);
  }

  take(bytes: number): Chunk {
    const size = Math.max(1, Math.ceil(bytes / ALIGNMENT)) * ALIGNMENT;
    const chunk = this.fitting(size) ?? this.extended(size);
    this.free.splice(this.free.indexOf(chunk), 1);
    if (chunk.size >= 2 * size || chunk.size - size >= MOST_DEAD) this.cut(chunk, size);
    chunk.isFree = false;
    chunk.touched.fill(1, Math.floor(chunk.start / GRAIN), Math.ceil((chunk.start + bytes) / GRAIN));
    return chunk;
  }

  giveBack(chunk: Chunk): void {
    chunk.isFree = true;
    this.free.push(chunk);
    if (chunk.after?.isFree) this.join(chunk, chunk.after);
    if (chunk.before?.isFree) this.join(chunk.before, chunk);
  }

  private fitting(size: number): Chunk | undefined {
    let best: Chunk | undefined;
    for (const chunk of this.free)
      if (chunk.size >= size && chunk.size < (best?.size ?? Infinity)) best = chunk;
    return best;
  }

  private extended(size: number): Chunk {
    const isLarger = size > this.region;
    while (size > this.region) this.region *= 2;
    const touched = new Uint8Array(Math.ceil(this.region / GRAIN));
    const chunk: Chunk = { touched, start: 0, size: this.region, isFree: true, before: null, after: null };
    if (!isLarger) this.region *= 2;
    this.regions.push(touched);
    this.free.push(chunk);
    return chunk;
  }

  private cut(chunk: Chunk, size: number): void {
    const { touched, start, after } = chunk;
    const rest: Chunk = {
      ...{ touched, start: start + size, size: chunk.size - size },
      ...{ isFree: true, before: chunk, after },
    };
    if (after !== null) after.before = rest;
    chunk.after = rest;
    chunk.size = size;
    this.free.push(rest);
  }

  /** Two neighbours that are free. */
  private join(chunk: Chunk, next: Chunk): void {
    this.free.splice(this.free.indexOf(next), 1);
    chunk.size += next.size;
    chunk.after = next.after;
    if (next.after !== null) next.after.before = chunk;
  }
}
