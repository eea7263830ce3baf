/** Which samples are computed together, and to what sizes their rows are padded. */

/** What has to be known of a sample to choose its microbatch. */
export interface Lengths {
  /** Prompt and completion. */
  readonly student: number;
  readonly completion: number;
  /** The teacher's prompt and the completion; 0 where the teacher is not asked. */
  readonly teacher: number;
}

/** Rows, their length, and response tokens of some samples; teacherRows 0: nobody asks the teacher. */
interface Sizes {
  readonly rows: number;
  readonly length: number;
  /** Computed: rows x length, or fewer where the rows' padding is left out. */
  readonly tokens: number;
  readonly positions: number;
  readonly teacherRows: number;
  readonly teacherLength: number;
  readonly teacherTokens: number;
}

/** Samples `from` to `to` of a sorted list, and the sizes that they are padded to. */
export interface MicrobatchSizes extends Sizes {
  readonly from: number;
  readonly to: number;
}

/**
 * How a batch is packed. `coarse`: few shapes, since each costs up to a third of a second to compile; the padding of the
 * rows is computed in attention only. `fine`: rows with little padding.
 */
export interface Packing {
  /** Padded tokens of one microbatch; a single longer sample gets one of its own. */
  readonly maxTokens: number;
  readonly grain: "coarse" | "fine";
}

/** A coarse length or number: powers of two and the numbers half-way between them. At most a third of a dimension is padding. */
export function bucketSize(needed: number, least = 1): number {
  let size = least;
  while (size < needed) size = (size & (size - 1)) === 0 && size >= 2 ? size * 1.5 : nextPowerOfTwo(size + 1);
  return size;
}

/** Coarse rows: powers of two, more than one where they are short. */
function coarseCount(needed: number, length: number): number {
  const least = Math.min(LEAST_ROWS, 2 ** Math.floor(Math.log2(LEAST_ROWS_TOKENS / length)));
  return nextPowerOfTwo(Math.max(needed, least));
}

/**
 * Tokens computed for coarse rows: a coarse number of them, or the rows with their padding where that is hardly more.
 * @param real - tokens that are no padding
 */
export function coarseTokens(real: number, padded: number): number {
  const tokens = bucketSize(real + 1, LEAST_TOKENS); // one stands for all padding
  return tokens > WORTH_UNPADDING * padded ? padded : tokens;
}

/** Coarse response positions: all tokens, half of them, a quarter ...: hardly more shapes than there are numbers of tokens. */
function coarsePositions(needed: number, tokens: number): number {
  let positions = tokens;
  while (positions % 2 === 0 && positions >= 2 * Math.max(needed, LEAST_POSITIONS)) positions /= 2;
  return positions;
}

const nextPowerOfTwo = (n: number): number => 2 ** Math.ceil(Math.log2(n));

/** A fine length: eight to each doubling, multiples of 8 in any case. At most a ninth of it is padding from 64 on. */
export function fineSize(needed: number): number {
  const step = Math.max(8, 2 ** (Math.floor(Math.log2(Math.max(needed, 1))) - 3));
  return Math.ceil(needed / step) * step;
}

const LEAST_LENGTH = 32;
const LEAST_TOKENS = 64;
const LEAST_POSITIONS = 64;
/** Of coarse rows, where they are so short that they hold no more than that many tokens. */
const [LEAST_ROWS, LEAST_ROWS_TOKENS] = [8, 1024];
/** Moving tokens to rows and back must not cost more than the padding. */
const WORTH_UNPADDING = 7 / 8;

const NOTHING: Sizes = {
  ...{ rows: 0, length: 0, tokens: 0, positions: 0 },
  ...{ teacherRows: 0, teacherLength: 0, teacherTokens: 0 },
};

const withSample = (needs: Sizes, { student, completion, teacher }: Lengths): Sizes => ({
  rows: needs.rows + 1,
  length: Math.max(needs.length, student),
  tokens: needs.tokens + student,
  positions: needs.positions + completion,
  teacherRows: needs.teacherRows + (teacher > 0 ? 1 : 0),
  teacherLength: Math.max(needs.teacherLength, teacher),
  teacherTokens: needs.teacherTokens + teacher,
});

/** Rows that hold so many sequences of up to a length, and some number of tokens in all. */
type RowSizes = Readonly<Record<"rows" | "length" | "tokens", number>>;

const fineRows = ({ rows, length }: RowSizes): RowSizes => {
  const padded = fineSize(length);
  return { rows, length: padded, tokens: rows * padded };
};

const coarseRows = ({ rows, length, tokens }: RowSizes): RowSizes => {
  const [count, padded] = [coarseCount(rows, length), bucketSize(length, LEAST_LENGTH)];
  return { rows: count, length: padded, tokens: coarseTokens(tokens, count * padded) };
};

function padded(needs: Sizes, { grain }: Pick<Packing, "grain">): Sizes {
  const sizesOf = grain === "fine" ? fineRows : coarseRows;
  const [rows, length, tokens] = [needs.teacherRows, needs.teacherLength, needs.teacherTokens];
  const teacher = rows === 0 ? { rows, length, tokens } : sizesOf({ rows, length, tokens });
  const own = sizesOf(needs);
  return {
    ...own,
    positions: grain === "fine" ? fineSize(needs.positions) : coarsePositions(needs.positions, own.tokens),
    teacherRows: teacher.rows,
    teacherLength: teacher.length,
    teacherTokens: teacher.tokens,
  };
}

/** @param samples - longest first */
export function microbatchSizes(samples: readonly Lengths[], packing: Packing): MicrobatchSizes[] {
  const groups = packing.grain === "fine" ? cheapestGroups(samples, packing) : filledGroups(samples, packing);
  return groups.map(([from, to]) => {
    const needs = samples.slice(from, to).reduce(withSample, NOTHING);
    return { from, to, ...padded(needs, packing) };
  });
}

type Group = readonly [from: number, to: number];

/** As many samples at a time as the first one's length allows. */
function filledGroups(samples: readonly Lengths[], { maxTokens }: Packing): Group[] {
  const groups: Group[] = [];
  for (let from = 0; from < samples.length; from = groups.at(-1)![1]) {
    const length = bucketSize(samples[from]!.student, LEAST_LENGTH);
    const count = Math.max(1, Math.floor(maxTokens / length));
    groups.push([from, Math.min(samples.length, from + count)]);
  }
  return groups;
}

/** A teacher's token passes forward once; the policy's passes forward twice and back, which costs as much as two. */
const TEACHER_SHARE = 1 / 4;
/** What a microbatch more costs, in tokens: the weights are read once more, and small products run slower. */
const OVERHEAD = 1 / 32;

/** The division of the list, in order, that computes least: padding against the number of microbatches. */
function cheapestGroups(samples: readonly Lengths[], { maxTokens }: Packing): Group[] {
  const best: { cost: number; from: number }[] = [{ cost: 0, from: 0 }]; // of the first n samples: where its last group begins
  for (let to = 1; to <= samples.length; to++) {
    let found = { cost: Number.POSITIVE_INFINITY, from: to - 1 };
    let needs = NOTHING;
    for (let from = to - 1; from >= 0; from--) {
      needs = withSample(needs, samples[from]!);
      const sizes = padded(needs, { grain: "fine" });
      const [own, teacher] = [sizes.rows * sizes.length, sizes.teacherRows * sizes.teacherLength];
      if (to - from > 1 && Math.max(own, teacher) > maxTokens) break; // more samples only make it larger
      const cost = best[from]!.cost + own + teacher * TEACHER_SHARE + maxTokens * OVERHEAD;
      if (cost < found.cost) found = { cost, from };
    }
    best.push(found);
  }
  const groups: Group[] = [];
  for (let to = samples.length; to > 0; to = groups[0]![0]) groups.unshift([best[to]!.from, to]);
  return groups;
}
