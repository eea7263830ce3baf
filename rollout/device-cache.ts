import { type DecoderConfig, decoderHidden, decodingSpecs, weightSpecs } from "../policy/index.js";
import {
  type CompiledFunction,
  type CompileOptions,
  compile,
  isFileTensor,
  isHostArray,
  type Provider,
  placeOn,
  type TracedFunction,
  type Value,
} from "../tensor/index.js";
import * as tf from "../tensor/tfjs.js";
import {
  cacheOf,
  cacheSpecs,
  keyName,
  layOutFunction,
  namedKeyValues,
  prefillSpecs,
  type Specs,
  standingStepFunction,
  standingStepSpecs,
  stepFunction,
  stepSpecs,
  valueName,
} from "./decode-graphs.js";
import { type DrawKind, drawFeeds, drawInGraph, drawKind, drawnTokens, drawSpecs } from "./draw-graph.js";
import { disposeGraphs, type KeptGraphs, keptGraph } from "./kept-graphs.js";
import {
  type KeyValueCache,
  PREFILL_ROWS,
  type Prefilled,
  padPrompts,
  type RunnerOptions,
  type RunnerShape,
  releaseAll,
} from "./key-value-cache.js";

/**
 * A decoding step that draws the next tokens itself and returns the whole cache with the new keys and values written in: on
 * a GPU outputs stay where they are.
 */
const deviceStepFunction =
  ({ config, shape, base }: RunnerOptions, kind: DrawKind): TracedFunction =>
  (inputs) => {
    const step = base === undefined ? stepFunction : standingStepFunction;
    const { logits, ...fresh } = step(config)(inputs);
    const { slots, cacheLength } = shape;
    const isHere = tf.equal(tf.range(0, cacheLength, 1, "int32"), tf.reshape(inputs.positions!, [slots, 1])); // [S, C]
    const here = tf.reshape(isHere, [slots, 1, cacheLength, 1]);
    const column = (x: tf.Tensor): tf.Tensor =>
      tf.reshape(x, [slots, config.keyValueHeads, 1, config.headDim]);
    const written = cacheOf(inputs, config).map((past, layer) => ({
      key: tf.where(here, column(fresh[keyName(layer)]!), past.key),
      value: tf.where(here, column(fresh[valueName(layer)]!), past.value),
    }));
    const draws = inputs as Parameters<typeof drawInGraph>[1];
    return { ...drawInGraph(logits as tf.Tensor2D, draws, kind), ...namedKeyValues(written) };
  };

/** Prefill without the logits: the first step feeds each prompt's last token again, and draws from those. */
const devicePrefillFunction =
  (config: DecoderConfig): TracedFunction =>
  (inputs) =>
    namedKeyValues(decoderHidden(inputs, inputs.ids as tf.Tensor2D, config).keyValues);

/** Fills slots from prefilled rows: `source` [S] is a row of the prefill, or -1 to keep what the slot has. */
const assignFunction =
  (config: DecoderConfig, shape: RunnerShape): TracedFunction =>
  (inputs) => {
    const { slots, promptLength, cacheLength } = shape;
    const source = inputs.source as tf.Tensor1D;
    const isFilled = tf.reshape(tf.greaterEqual(source, tf.scalar(0, "int32")), [slots, 1, 1, 1]);
    const rows = tf.maximum(source, tf.scalar(0, "int32")) as tf.Tensor1D;
    const spread = (row: tf.Tensor, past: tf.Tensor): tf.Tensor => {
      const padded = tf.pad(row as tf.Tensor4D, [
        [0, 0],
        [0, 0],
        [0, cacheLength - promptLength],
        [0, 0],
      ]);
      return tf.where(isFilled, tf.gather(padded, rows), past);
    };
    const filled = cacheOf(inputs, config).map((past, layer) => ({
      key: spread(inputs[`row.${layer}.key`]!, past.key),
      value: spread(inputs[`row.${layer}.value`]!, past.value),
    }));
    return namedKeyValues(filled);
  };

/** An empty cache, made where it stays. */
const emptyFunction =
  (config: DecoderConfig, shape: RunnerShape): TracedFunction =>
  ({ zero }) =>
    Object.fromEntries(
      Object.entries(cacheSpecs(config, shape)).map(([name, spec]) => [
        name,
        tf.broadcastTo(zero!, [...spec.shape]),
      ]),
    );

const assignSpecs = (config: DecoderConfig, shape: RunnerShape, rows: number): Specs => {
  const row = {
    shape: [rows, config.keyValueHeads, shape.promptLength, config.headDim],
    dtype: "float32" as const,
  };
  const layers = Array.from({ length: config.layers }, (_, layer) => layer);
  return {
    ...cacheSpecs(config, shape),
    ...Object.fromEntries(
      layers.flatMap((layer) => [
        [`row.${layer}.key`, row],
        [`row.${layer}.value`, row],
      ]),
    ),
    source: { shape: [shape.slots], dtype: "int32" },
  };
};

/** Those of the weights that are not on the device, put there: they would cross again with every prefill. */
function placeWeights(provider: Provider, weights: Readonly<Record<string, Value>>, config: DecoderConfig) {
  const here = Object.entries(weights).filter(([, value]) => isHostArray(value) || isFileTensor(value));
  return placeOn(provider, Object.fromEntries(here), weightSpecs(config));
}

/** The step's graph for each kind of draw, compiled when it is first needed. */
function stepGraphs(runner: RunnerOptions, options: CompileOptions) {
  const { config, shape, base } = runner;
  const graphs: KeptGraphs<string> = new Map();
  return {
    of: (kind: DrawKind): Promise<CompiledFunction> => {
      const key = JSON.stringify(kind);
      const own = base === undefined ? stepSpecs(config, shape) : standingStepSpecs(config, shape);
      const specs = { ...own, ...drawSpecs(shape.slots) };
      return keptGraph(graphs, key, () =>
        compile(deviceStepFunction(runner, kind), specs, { ...options, name: "decode" }),
      );
    },
    dispose: (): Promise<void> => disposeGraphs(graphs),
  };
}

/** Tokens of a prefill, beyond one prompt: a layer's attention scores are rows x heads x length x length. */
const PREFILL_TOKENS = 2048;

/** A cache that stays in device buffers: ids, positions and numbers to draw with go in, drawn tokens come out. */
export async function createDeviceCache(runner: RunnerOptions): Promise<KeyValueCache> {
  const { config, shape, provider, threads, base } = runner;
  const names = Array.from({ length: config.layers }, (_, layer) => [
    keyName(layer),
    valueName(layer),
  ]).flat();
  const options = { provider, keepOnDevice: names, ...(threads === undefined ? {} : { threads }) };
  const most = Math.floor(PREFILL_TOKENS / shape.promptLength);
  const prefillRows = Math.max(1, Math.min(PREFILL_ROWS, most));
  const { last: _, ...promptSpecs } = prefillSpecs(config, shape, prefillRows);
  const prefillGraph = await compile(devicePrefillFunction(config), promptSpecs, {
    ...options,
    name: "prefill",
  });
  const steps = stepGraphs(runner, options);
  const assignGraph = await compile(assignFunction(config, shape), assignSpecs(config, shape, prefillRows), {
    ...options,
    name: "assign",
  });
  const layOut = await compile(layOutFunction(config), weightSpecs(config), {
    ...options,
    name: "lay out weights",
    keepOnDevice: Object.keys(decodingSpecs(config)),
  });
  let weights: Readonly<Record<string, Value>> = {};
  /** Those of the weights that this cache has put on the device itself. */
  let placed: Readonly<Record<string, Value>> = {};
  let laidOut: Readonly<Record<string, Value>> = {};
  const empty = await compile(
    emptyFunction(config, shape),
    { zero: { shape: [1, 1, 1, 1], dtype: "float32" } },
    { ...options, name: "empty cache" },
  );
  let cache = await empty.run({ zero: Float32Array.of(0) });
  await empty.dispose();

  const replace = (outputs: Readonly<Record<string, Value>>): void => {
    releaseAll(cache);
    cache = Object.fromEntries(names.map((name) => [name, outputs[name]!]));
  };

  return {
    prefillRows,
    useWeights: async (next) => {
      releaseAll({ ...laidOut, ...placed });
      placed = await placeWeights(provider, next, config);
      weights = { ...next, ...placed };
      // On a base a step computes as it stands: a second copy of a large policy would not fit.
      laidOut = base === undefined ? await layOut.run(weights) : {};
    },
    prefill: async (prompts): Promise<Prefilled> => {
      const { ids, lengths } = padPrompts(prompts, shape.promptLength, prefillRows);
      const outputs = await prefillGraph.run({ ...weights, ids });
      const keyValues = names.map((name) => outputs[name]!);
      const width = shape.promptLength;
      return { logits: null, lengths, width, keyValues, release: () => releaseAll(outputs) };
    },
    assign: async (prefilled, row, targets) => {
      const source = new Int32Array(shape.slots).fill(-1);
      for (const slot of targets) source[slot] = row;
      const rows = Object.fromEntries(
        names.map((name, i) => [name.replace("cache.", "row."), prefilled.keyValues[i]!]),
      );
      replace(await assignGraph.run({ ...cache, ...rows, source }));
    },
    step: async (ids, positions, draws) => {
      const graph = await steps.of(drawKind(draws, config.vocabulary));
      const own = base === undefined ? laidOut : weights;
      const feeds = { ...own, ...cache, ids, positions, ...drawFeeds(draws, config.vocabulary) };
      const outputs = await graph.run(feeds);
      replace(outputs);
      return { drawn: drawnTokens(outputs, draws) };
    },
    dispose: async () => {
      releaseAll({ ...cache, ...laidOut, ...placed });
      for (const graph of [prefillGraph, assignGraph, layOut]) await graph.dispose();
      await steps.dispose();
    },
  };
}
