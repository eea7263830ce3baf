/** Prompts run whole, in batches of one compiled shape: for those that are short. */
import { weightSpecs } from "../policy/index.js";
import { compile, type Value } from "../tensor/index.js";
import { cacheNames, prefillFunction, prefillSpecs } from "./decode-graphs.js";
import { asFloats, PREFILL_ROWS, padPrompts, type RunnerOptions } from "./key-value-cache.js";
import type { Prefill } from "./prompt-parts.js";

export async function createWholePrefill(runner: RunnerOptions): Promise<Prefill> {
  const { config, shape, provider, threads } = runner;
  const graph = await compile(prefillFunction(config), prefillSpecs(config, shape), {
    provider,
    deterministic: true,
    name: "prefill",
    ...(threads === undefined ? {} : { threads }),
  });
  const own = Object.keys(weightSpecs(config));
  let weights: Readonly<Record<string, Value>> = {};
  return {
    rows: PREFILL_ROWS,
    useWeights: (next) => {
      weights = Object.fromEntries(own.map((name) => [name, next[name]!]));
    },
    run: async (prompts) => {
      const { ids, last, lengths } = padPrompts(prompts, shape.promptLength);
      const outputs = await graph.run({ ...weights, ids, last });
      const keyValues = cacheNames(config).map((name) => outputs[name]!);
      const logits = asFloats(outputs.logits);
      return { logits, lengths, width: shape.promptLength, keyValues, release: () => {} };
    },
    dispose: () => graph.dispose(),
  };
}
