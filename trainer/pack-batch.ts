/** Samples to microbatches: padded typed arrays of a few fixed shapes, ready for a compiled graph. */
import { ConfigError, type Sample } from "../core/index.js";
import { hasSignal, type SampleWeights } from "./objective-parts.js";

/**
 * Lengths that graphs are compiled for: powers of two and the numbers half-way between them. At most a third of a
 * dimension is padding, and few shapes occur.
 */
export function bucketSize(needed: number, least = 1): number {
  let size = least;
  while (size < needed) size = (size & (size - 1)) === 0 && size >= 2 ? size * 1.5 : nextPowerOfTwo(size + 1);
  return size;
}

/** Rows and response positions: powers of two. A shape costs a third of a second to compile, more than its padding. */
export function coarseSize(needed: number, least: number): number {
  return Math.max(least, nextPowerOfTwo(needed));
}

const nextPowerOfTwo = (n: number): number => 2 ** Math.ceil(Math.log2(n));

/** Rows of token ids [rows, length], right-padded with 0. */
export interface PaddedRows {
  readonly rows: number;
  readonly length: number;
  readonly ids: Int32Array;
}

/**
 * Response tokens of some samples, packed one after the other: of R positions, the first `tokens` are real, the rest
 * padding with weight 0. Only these positions are projected onto the vocabulary.
 */
export interface Microbatch extends PaddedRows {
  readonly tokens: number;
  readonly sequences: number;
  /** [R] index into the flattened rows of the position that *predicts* the token: the one before it. */
  readonly positions: Int32Array;
  /** [rows x length] the place among the R of each position, or R: it predicts no response token. */
  readonly inverse: Int32Array;
  /** [R] the token that the policy chose. */
  readonly targets: Int32Array;
  /** [R] the sampler's natural logs; 0 where the sample has none. */
  readonly rolloutLogProbs: Float32Array;
  /** [R] 1 where the sample has them. */
  readonly isSampled: Uint8Array;
  /** [R] */
  readonly advantages: Float32Array;
  /** [R] each: the weight of the token in each term of the loss. */
  readonly weights: Readonly<Record<keyof SampleWeights, Float32Array>>;
  /** The same completions after the teachers' prompts, position by position; null without any teacher. */
  readonly teacher: (PaddedRows & { readonly positions: Int32Array }) | null;
}

const LEAST_LENGTH = 32;
const LEAST_POSITIONS = 256;
const LEAST_ROWS = 8;

interface WeighedSample {
  readonly sample: Sample;
  readonly weights: SampleWeights;
}

const studentLength = ({ sample }: WeighedSample): number =>
  sample.promptIds.length + sample.completionIds.length;

/**
 * Packs the samples that have a signal, longest first, into microbatches of at most `maxTokens` padded tokens (a single
 * longer sample gets one of its own). Weights hold the whole batch's denominators, so any split gives the same update.
 * @param weights - [B] of `sampleWeights`
 */
export function packBatch(
  samples: readonly Sample[],
  weights: readonly SampleWeights[],
  maxTokens: number,
): Microbatch[] {
  const rows = samples
    .map((sample, i) => ({ sample, weights: weights[i]! }))
    .filter((row) => hasSignal(row.sample, row.weights))
    .sort((a, b) => studentLength(b) - studentLength(a));
  const microbatches: Microbatch[] = [];
  for (let start = 0; start < rows.length; ) {
    const length = bucketSize(studentLength(rows[start]!), LEAST_LENGTH);
    const count = Math.max(1, Math.floor(maxTokens / length));
    microbatches.push(packRows(rows.slice(start, start + count), length));
    start += count;
  }
  return microbatches;
}

function packRows(rows: readonly WeighedSample[], length: number): Microbatch {
  const tokens = rows.reduce((sum, { sample }) => sum + sample.completionIds.length, 0);
  const size = coarseSize(tokens, LEAST_POSITIONS);
  const floats = (): Float32Array => new Float32Array(size);
  const student = padRows(
    rows.map(({ sample }) => [sample.promptIds, sample.completionIds]),
    length,
    size,
  );
  const packed = {
    targets: new Int32Array(size),
    rolloutLogProbs: floats(),
    isSampled: new Uint8Array(size),
    advantages: floats(),
    weights: { policy: floats(), distill: floats(), imitate: floats(), kl: floats() },
  };
  let at = 0;
  for (const { sample, weights } of rows) {
    const end = at + sample.completionIds.length;
    packed.targets.set(sample.completionIds, at);
    checkLogProbs(sample);
    packed.rolloutLogProbs.set(sample.rolloutLogProbs, at);
    if (sample.rolloutLogProbs.length > 0) packed.isSampled.fill(1, at, end);
    packed.advantages.fill(sample.advantage, at, end);
    for (const term of ["policy", "distill", "imitate", "kl"] as const)
      packed.weights[term].fill(weights[term], at, end);
    at = end;
  }
  const inverse = new Int32Array(student.ids.length).fill(size);
  for (let token = 0; token < tokens; token++) inverse[student.positions[token]!] = token;
  return { ...student, ...packed, inverse, tokens, sequences: rows.length, teacher: packTeacher(rows, size) };
}

function checkLogProbs({ rolloutId, completionIds, rolloutLogProbs, promptIds }: Sample): void {
  if (promptIds.length === 0)
    throw new ConfigError({ at: `sample ${rolloutId}`, need: "a prompt of one token or more" });
  if (rolloutLogProbs.length !== 0 && rolloutLogProbs.length !== completionIds.length) {
    throw new ConfigError({
      at: `sample ${rolloutId}: rolloutLogProbs`,
      got: rolloutLogProbs.length,
      need: `${completionIds.length}, one for each completion token (or none)`,
    });
  }
}

/** Lays sequences [prompt, completion] out as rows and lists the positions that predict their completion tokens. */
function padRows(
  sequences: readonly (readonly [prompt: readonly number[], completion: readonly number[]])[],
  length: number,
  size: number,
): PaddedRows & { positions: Int32Array } {
  const rows = coarseSize(sequences.length, LEAST_ROWS);
  const ids = new Int32Array(rows * length);
  const positions = new Int32Array(size);
  let at = 0;
  for (const [row, [prompt, completion]] of sequences.entries()) {
    ids.set(prompt, row * length);
    ids.set(completion, row * length + prompt.length);
    completion.forEach((_, t) => {
      positions[at++] = row * length + prompt.length + t - 1;
    });
  }
  return { rows, length, ids, positions };
}

function packTeacher(rows: readonly WeighedSample[], size: number): Microbatch["teacher"] {
  const taught = rows.filter(({ weights }) => weights.distill !== 0);
  if (taught.length === 0) return null;
  const longest = Math.max(
    ...taught.map(({ sample }) => sample.teacherPromptIds!.length + sample.completionIds.length),
  );
  const length = bucketSize(longest, LEAST_LENGTH);
  const laid = padRows(
    taught.map(({ sample }) => [sample.teacherPromptIds!, sample.completionIds]),
    length,
    size,
  );
  // padRows lists the taught samples' positions without gaps; spread them to where the student has the same tokens.
  const positions = new Int32Array(size);
  let [from, to] = [0, 0];
  for (const { sample, weights } of rows) {
    const count = sample.completionIds.length;
    if (weights.distill !== 0) {
      positions.set(laid.positions.subarray(from, from + count), to);
      from += count;
    }
    to += count;
  }
  return { ...laid, positions };
}
