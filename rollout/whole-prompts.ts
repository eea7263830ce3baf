/** Prompts run whole, in batches of few compiled shapes: for those that are short. */
import { parameterCount, weightSpecs } from "../policy/index.js";
import { type CompiledFunction, compile, type Value } from "../tensor/index.js";
import { cacheNames, prefillFunction, prefillSpecs } from "./decode-graphs.js";
import { disposeGraphs, type KeptGraphs, keptGraph } from "./kept-graphs.js";
import { asFloats, PREFILL_ROWS, padPrompts, type RunnerOptions } from "./key-value-cache.js";
import type { Prefill } from "./prompt-parts.js";

/** Operations of a full batch, 10 ms of one thread, up to which a smaller one is padded: another graph takes 50 ms to compile. */
const PADDED = 1e9;

export async function createWholePrefill(runner: RunnerOptions): Promise<Prefill> {
  const { config, shape, provider, threads } = runner;
  const isPadded = 2 * parameterCount(config) * PREFILL_ROWS * shape.promptLength <= PADDED;
  const graphs: KeptGraphs<number> = new Map();
  const graphOf = (rows: number): Promise<CompiledFunction> =>
    keptGraph(graphs, rows, () =>
      compile(prefillFunction(config), prefillSpecs(config, shape, rows), {
        provider,
        deterministic: true,
        name: `prefill of ${rows}`,
        ...(threads === undefined ? {} : { threads }),
      }),
    );
  /** The fewest that hold so many prompts: 1, 2 or 4, so that there are few graphs. */
  const rowsFor = (prompts: number): number => (isPadded || prompts > 2 ? PREFILL_ROWS : prompts);
  if (isPadded) await graphOf(PREFILL_ROWS);
  const own = Object.keys(weightSpecs(config));
  let weights: Readonly<Record<string, Value>> = {};
  return {
    rows: PREFILL_ROWS,
    useWeights: (next) => {
      weights = Object.fromEntries(own.map((name) => [name, next[name]!]));
    },
    run: async (prompts) => {
      const rows = rowsFor(prompts.length);
      const { ids, last, lengths } = padPrompts(prompts, shape.promptLength, rows);
      const graph = await graphOf(rows);
      const heads = graph.inputs.last!.shape[0];
      const outputs = await graph.run({ ...weights, ids, last: last.subarray(0, heads) });
      const keyValues = cacheNames(config).map((name) => outputs[name]!);
      const logits = asFloats(outputs.logits);
      return { logits, lengths, width: shape.promptLength, keyValues, release: () => {} };
    },
    dispose: () => disposeGraphs(graphs),
  };
}
