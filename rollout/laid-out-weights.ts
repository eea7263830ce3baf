/** The copy of the weights that decoding steps on cpu run on, made one layer at a time. */
import {
  type DecoderConfig,
  decodingEnds,
  decodingLayer,
  decodingSpecs,
  type WeightLayout,
  weightSpecs,
} from "../policy/index.js";
import {
  type CompiledFunction,
  type CompileOptions,
  compile,
  type TracedFunction,
  type Value,
} from "../tensor/index.js";
import { type RunnerOptions, releaseAll } from "./key-value-cache.js";

type Values = Readonly<Record<string, Value>>;

export interface LaidOutWeights {
  /** As `stepSpecs` names them; those of the last call are given back. */
  layOut(weights: Values): Promise<Values>;
  dispose(): Promise<void>;
}

const EMBEDDING = "model.embed_tokens.weight";
const FIRST_LAYER = "model.layers.0.";

const chosen = <T>(
  record: Readonly<Record<string, T>>,
  isWanted: (name: string) => boolean,
): Record<string, T> => Object.fromEntries(Object.entries(record).filter(([name]) => isWanted(name)));

/**
 * One function lays out every layer, another the head: an output is a copy of what the graph holds, so a graph of all layers would
 * for a moment hold all weights twice. The embedding is looked up as it stands, where it is float32.
 */
export async function laidOutWeights(
  { config, provider, threads }: RunnerOptions,
  layout: WeightLayout,
): Promise<LaidOutWeights> {
  const isEmbeddingShared = config.matrixType === undefined;
  const part = (
    fn: TracedFunction,
    layers: number,
    isInput: (name: string) => boolean,
  ): Promise<CompiledFunction> => {
    const own: DecoderConfig = { ...config, layers };
    const options: CompileOptions = {
      provider,
      deterministic: true,
      arena: false, // it runs once for each new weights
      name: "lay out weights",
      keepOnDevice: Object.keys(decodingSpecs(own, layout)),
      ...(threads === undefined ? {} : { threads }),
    };
    return compile(fn, chosen(weightSpecs(own), isInput), options);
  };
  const isOfLayer = (name: string): boolean => name.startsWith(FIRST_LAYER);
  const layer = await part((inputs) => decodingLayer(inputs, 0, config, layout), 1, isOfLayer);
  const ends = await part(
    (inputs) => {
      const { embedding, head } = decodingEnds(inputs, layout);
      return isEmbeddingShared ? { head: head! } : { embedding: embedding!, head: head! };
    },
    0,
    () => true,
  );

  const feedsOf = ({ inputs }: CompiledFunction, weights: Values, prefix = FIRST_LAYER): Values =>
    Object.fromEntries(
      Object.keys(inputs).map((name) => [name, weights[name.replace(FIRST_LAYER, prefix)]!]),
    );
  let made: Values = {};
  return {
    layOut: async (weights) => {
      releaseAll(made);
      made = {};
      made = await ends.run(feedsOf(ends, weights));
      for (let index = 0; index < config.layers; index++) {
        const own = await layer.run(feedsOf(layer, weights, `model.layers.${index}.`));
        const named = Object.entries(own).map(([name, value]) => [`${index}${name.slice(1)}`, value]);
        made = { ...made, ...Object.fromEntries(named) };
      }
      return isEmbeddingShared ? { embedding: weights[EMBEDDING]!, ...made } : made;
    },
    dispose: async () => {
      releaseAll(made);
      await layer.dispose();
      await ends.dispose();
    },
  };
}
