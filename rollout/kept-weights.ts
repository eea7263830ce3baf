/** Which words of a large vocabulary are the most likely ones, without sorting it. */

/** A weight's bucket: its exponent and the first 8 bits of its mantissa, so that a bucket spans 0.4 percent. */
const BUCKET_SHIFT = 12;
/** High words of 2^-128, below which all share one bucket, and of 1, the largest weight. */
const LEAST = (1023 - 128) << 20;
const MOST = 1023 << 20;
const BUCKETS = ((MOST - LEAST) >>> BUCKET_SHIFT) + 1;

const counts = new Int32Array(BUCKETS);
const masses = new Float64Array(BUCKETS);

/** The kept words: all of more weight than `least`, and the first `ties` of just this weight. */
export interface KeptWeights {
  readonly least: number;
  readonly ties: number;
}

/** High words of the weights: positive numbers of one format are in order when their bits are. */
let words = new Uint32Array(new ArrayBuffer(0));
/** Where the high word of a double stands, of its two. */
const HIGH = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0;

/**
 * The heaviest words, as many as `topK` and as many as it takes for their weights to reach `mass`; one at least. Ties go to
 * the smaller id.
 * @param weights - from 0 to 1, the first `vocabulary` of the array, which stands at the start of its buffer
 */
export function keptWeights(
  weights: Float64Array<ArrayBuffer>,
  vocabulary: number,
  topK: number,
  mass: number,
): KeptWeights {
  if (words.buffer !== weights.buffer) words = new Uint32Array(weights.buffer);
  const bucketOf = (id: number): number => {
    const above = words[2 * id + HIGH]! - LEAST;
    return above < 0 ? 0 : above >>> BUCKET_SHIFT;
  };
  for (let id = 0; id < vocabulary; id++) {
    const bucket = bucketOf(id);
    counts[bucket]!++;
    masses[bucket]! += weights[id]!;
  }
  let bucket = BUCKETS - 1;
  let count = 0;
  let kept = 0;
  // Whole buckets, from the heaviest, as long as all of their words stay.
  while (bucket > 0 && count + counts[bucket]! <= topK && kept + masses[bucket]! < mass) {
    count += counts[bucket]!;
    kept += masses[bucket]!;
    bucket--;
  }
  const border = new Float64Array(counts[bucket]!);
  let filled = 0;
  for (let id = 0; id < vocabulary; id++) if (bucketOf(id) === bucket) border[filled++] = weights[id]!;
  border.sort();
  // Not all of them: clearing took longer than a draw from few words.
  for (let id = 0; id < vocabulary; id++) counts[bucketOf(id)] = 0;
  for (let id = 0; id < vocabulary; id++) masses[bucketOf(id)] = 0;
  return fromBorder(border, { count, kept }, topK, mass);
}

/** Takes the words of the last bucket one by one, the heaviest first. @param border - ascending */
function fromBorder(
  border: Float64Array,
  before: { readonly count: number; readonly kept: number },
  topK: number,
  mass: number,
): KeptWeights {
  let { count, kept } = before;
  let least = Number.POSITIVE_INFINITY;
  let ties = 0;
  for (let i = border.length - 1; i >= 0; i--) {
    if (count > 0 && (count >= topK || kept >= mass)) break;
    ties = border[i] === least ? ties + 1 : 1;
    least = border[i]!;
    count++;
    kept += least;
  }
  // Nothing of the bucket stays: then everything above it, that is, above its heaviest.
  return ties > 0 ? { least, ties } : { least: border.at(-1) ?? 0, ties: 0 };
}
