/** Samples to microbatches: padded typed arrays of a few fixed shapes, ready for a compiled graph. */
import { ConfigError, type Sample } from "../core/index.js";
import { type Lengths, type MicrobatchSizes, microbatchSizes, type Packing } from "./microbatch-sizes.js";
import { hasSignal, type SampleWeights } from "./objective-parts.js";

/** Rows of token ids [rows, length], right-padded with 0; their padding is computed, or left out of everything but attention. */
export interface PaddedRows {
  readonly rows: number;
  readonly length: number;
  /** Tokens that are no padding. */
  readonly real: number;
  /** [rows x length], or [N] without the rows' padding: the real ones, then one 0 or more. */
  readonly ids: Int32Array;
  /** Where the N tokens stand in the rows, see `UnpaddedRows`; null: ids are the rows. */
  readonly unpadded: { readonly tokenAt: Int32Array; readonly placeOf: Int32Array } | null;
}

/**
 * Response tokens of some samples, packed one after the other: of R positions, the first `tokens` are real, the rest
 * padding with weight 0. Only these positions are projected onto the vocabulary.
 */
export interface Microbatch extends PaddedRows {
  readonly tokens: number;
  readonly sequences: number;
  /** [R] index into `ids` of the position that *predicts* the token: the one before it. */
  readonly positions: Int32Array;
  /** [ids] the place among the R of each position, or R: it predicts no response token. */
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

interface WeighedSample {
  readonly sample: Sample;
  readonly weights: SampleWeights;
}

const studentLength = ({ sample }: WeighedSample): number =>
  sample.promptIds.length + sample.completionIds.length;

const lengthsOf = (row: WeighedSample): Lengths => ({
  student: studentLength(row),
  completion: row.sample.completionIds.length,
  teacher:
    row.weights.distill === 0 ? 0 : row.sample.teacherPromptIds!.length + row.sample.completionIds.length,
});

/**
 * Packs the samples that have a signal, longest first, into microbatches. Weights hold the whole batch's denominators, so
 * any split gives the same update.
 * @param weights - [B] of `sampleWeights`
 */
export function packBatch(
  samples: readonly Sample[],
  weights: readonly SampleWeights[],
  packing: Packing,
): Microbatch[] {
  const rows = samples
    .map((sample, i) => ({ sample, weights: weights[i]! }))
    .filter((row) => hasSignal(row.sample, row.weights))
    .sort((a, b) => studentLength(b) - studentLength(a));
  return microbatchSizes(rows.map(lengthsOf), packing).map((sizes) =>
    packRows(rows.slice(sizes.from, sizes.to), sizes),
  );
}

function packRows(rows: readonly WeighedSample[], sizes: MicrobatchSizes): Microbatch {
  const size = sizes.positions;
  const tokens = rows.reduce((sum, { sample }) => sum + sample.completionIds.length, 0);
  const floats = (): Float32Array => new Float32Array(size);
  const student = padRows(
    rows.map(({ sample }) => [sample.promptIds, sample.completionIds]),
    [sizes.rows, sizes.length, sizes.tokens],
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
  const teacher = packTeacher(rows, sizes);
  return { ...student, ...packed, inverse, tokens, sequences: rows.length, teacher };
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

/**
 * Lays sequences [prompt, completion] out as rows and lists the positions that predict their completion tokens.
 * @param shape - with fewer tokens than rows x length, the rows' padding is left out; then one token more than the real
 *   ones at least, which stands for all padding
 */
function padRows(
  sequences: readonly (readonly [prompt: readonly number[], completion: readonly number[]])[],
  [rows, length, tokens]: readonly [rows: number, length: number, tokens: number],
  size: number,
): PaddedRows & { positions: Int32Array } {
  const ids = new Int32Array(tokens);
  const positions = new Int32Array(size);
  const starts: number[] = [];
  const isUnpadded = tokens < rows * length;
  let [at, real] = [0, 0];
  for (const [row, [prompt, completion]] of sequences.entries()) {
    const start = isUnpadded ? real : row * length;
    starts.push(start);
    real += prompt.length + completion.length;
    ids.set(prompt, start);
    ids.set(completion, start + prompt.length);
    completion.forEach((_, t) => {
      positions[at++] = start + prompt.length + t - 1;
    });
  }
  const unpadded = isUnpadded ? placesOf([...starts, real], [rows, length, tokens]) : null;
  return { rows, length, real, ids, positions, unpadded };
}

/** @param starts - of each sequence in the tokens, and the end of the last */
function placesOf(
  starts: readonly number[],
  [rows, length, tokens]: readonly [rows: number, length: number, tokens: number],
): { tokenAt: Int32Array; placeOf: Int32Array } {
  const real = starts.at(-1)!;
  const tokenAt = new Int32Array(rows * length).fill(real); // the first token of padding
  const placeOf = new Int32Array(tokens);
  for (let row = 0; row + 1 < starts.length; row++) {
    for (let token = starts[row]!; token < starts[row + 1]!; token++) {
      const place = row * length + token - starts[row]!;
      [tokenAt[place], placeOf[token]] = [token, place];
    }
  }
  return { tokenAt, placeOf: placeOf.fill(tokenAt.indexOf(real), real) };
}

function packTeacher(rows: readonly WeighedSample[], sizes: MicrobatchSizes): Microbatch["teacher"] {
  const taught = rows.filter(({ weights }) => weights.distill !== 0);
  if (taught.length === 0) return null;
  const laid = padRows(
    taught.map(({ sample }) => [sample.teacherPromptIds!, sample.completionIds]),
    [sizes.teacherRows, sizes.teacherLength, sizes.teacherTokens],
    sizes.positions,
  );
  // padRows lists the taught samples' positions without gaps; spread them to where the student has the same tokens.
  const positions = new Int32Array(sizes.positions);
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
