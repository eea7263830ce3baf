import type { DecoderConfig } from "../policy/index.js";

/** One policy and the work that is measured with it. */
export interface BenchShape {
  readonly name: string;
  readonly config: DecoderConfig;
  /** Rows of `length` tokens in one training step. */
  readonly train: { readonly rows: number; readonly length: number; readonly steps: number };
  /** Completions of equal length: `prompts` x `samples` sequences decoded at once. */
  readonly sample: {
    readonly prompts: number;
    readonly samples: number;
    readonly promptLength: number;
    readonly newTokens: number;
  };
}

function llama(
  layers: number,
  width: number,
  heads: number,
  feedForward: number,
  vocabulary: number,
): DecoderConfig {
  return {
    modelType: "llama",
    width,
    feedForward,
    layers,
    heads,
    keyValueHeads: heads,
    headDim: width / heads,
    vocabulary,
    normEpsilon: 1e-6,
    ropeTheta: 10_000,
    ropeScaling: null,
    maxPositions: 512,
    tiedEmbeddings: true,
    queryKeyValueBias: false,
    queryKeyNorm: false,
    stopIds: [],
  };
}

export const SHAPES: readonly BenchShape[] = [
  {
    name: "L4 D256 H4 F768 V512",
    config: llama(4, 256, 4, 768, 512),
    train: { rows: 8, length: 256, steps: 2 },
    sample: { prompts: 16, samples: 4, promptLength: 12, newTokens: 200 },
  },
  {
    name: "L2 D128 H8 F384 V250",
    config: llama(2, 128, 8, 384, 250),
    train: { rows: 16, length: 64, steps: 10 },
    sample: { prompts: 16, samples: 4, promptLength: 12, newTokens: 60 },
  },
];

/** Multiply-adds count two. Attention is counted as computed: all T x T scores in training, the filled cache in sampling. */
export function floatingPointOperations(shape: BenchShape): {
  trainPerToken: number;
  samplePerToken: number;
} {
  const { config, train, sample } = shape;
  const projections = config.layers * (4 * config.width ** 2 + 3 * config.width * config.feedForward);
  const matrices = 2 * (projections + config.vocabulary * config.width);
  const perCachedToken = 4 * config.layers * config.width;
  const meanCache = sample.promptLength + (sample.newTokens - 1) / 2;
  return {
    // the backward pass multiplies twice for each product of the forward pass
    trainPerToken: 3 * (matrices + perCachedToken * train.length),
    samplePerToken: matrices + perCachedToken * meanCache,
  };
}
