/** What sampling takes: the cache's own code, run dry. */
import { availableParallelism } from "node:os";
import { weightSpecs } from "../policy/index.js";
import { DryRun, type DryStage, whileDry } from "../tensor/index.js";
import { cacheLengths, cacheSpecs } from "./decode-graphs.js";
import { createDeviceCache } from "./device-cache.js";
import { createHostCache } from "./host-cache.js";
import type { RunnerShape } from "./key-value-cache.js";
import type { EngineOptions } from "./lane.js";
import { laneShares } from "./lane-shares.js";
import type { SamplingParameters, SlotDraw } from "./sampling.js";

/** Bytes and work of a sampler for one shape. All lanes together, where nothing else is said. */
export interface SamplingCost {
  /** Slots of each lane. */
  readonly lanes: readonly number[];
  /** Keys and values of every slot at full length. */
  readonly cacheBytes: number;
  /** The policy's weights as each lane was sent them. */
  readonly sentBytes: number;
  /** Weights as decoding steps want them. */
  readonly laidOutBytes: number;
  /** What graphs keep between calls. */
  readonly graphBytes: number;
  /** What stands beside all of that in the most demanding call. */
  readonly callBytes: number;
  /** One call of one lane, of `prefillRows` prompts at full length. */
  readonly prefill: DryStage;
  readonly prefillRows: number;
  /** One decoding step of one lane, every slot at full length. */
  readonly step: DryStage;
}

const bytesOf = (specs: ReturnType<typeof weightSpecs>): number =>
  Object.values(specs).reduce(
    (sum, { shape, dtype }) => sum + (dtype === "float16" ? 2 : 4) * shape.reduce((a, b) => a * b, 1),
    0,
  );

export async function samplingCost(
  options: EngineOptions,
  sampling: SamplingParameters,
): Promise<SamplingCost> {
  const { config, shape, provider, base } = options;
  const { slots, threads } = laneShares(options, options.threads ?? availableParallelism());
  const own: RunnerShape = { ...shape, slots: Math.max(...slots) };
  const onDevice = provider === "webgpu";
  const dry = new DryRun();
  const lane = await whileDry(dry, async () => {
    const cache = await (onDevice ? createDeviceCache : createHostCache)({
      config,
      shape: own,
      provider,
      threads,
      ...(base === undefined ? {} : { base }),
    });
    // A host cache is plain arrays of the code itself; a device's was made by a graph.
    const cacheBytes = bytesOf(cacheSpecs(config, own) as ReturnType<typeof weightSpecs>);
    const before = dry.heldBytes();
    await cache.useWeights(
      Object.fromEntries(Object.entries(weightSpecs(config)).map(([name, spec]) => [name, dry.given(spec)])),
    );
    const laidOutBytes = dry.heldBytes() - before;
    dry.stage();
    const prompt = new Array<number>(own.promptLength).fill(0);
    const prefilled = await cache.prefill(
      new Array<readonly number[]>(cache.prefillRows).fill(prompt),
      async () => {},
    );
    const prefill = dry.stage();
    if (onDevice) await cache.assign(prefilled, 0, [0]);
    prefilled.release();
    // The shortest graph and the longest: what those between them keep lies between.
    const lengths = onDevice ? [own.cacheLength] : cacheLengths(own.cacheLength);
    const ids = new Int32Array(own.slots);
    const draws = new Array<SlotDraw>(own.slots).fill({ ...sampling, uniform: 0, alternatives: 0 });
    const stepAt = (position: number) =>
      cache.step(
        ids,
        ids.map(() => position),
        draws,
      );
    const assigned = dry.stage();
    const beforeSteps = dry.graphBytes();
    await stepAt(lengths[0]! - 1);
    const ofShortest = dry.graphBytes() - beforeSteps;
    dry.stage();
    await stepAt(own.cacheLength - 1);
    const step = dry.stage();
    const ofBoth = dry.graphBytes() - beforeSteps;
    const ofSteps = lengths.length > 1 ? ((ofShortest + (ofBoth - ofShortest)) / 2) * lengths.length : ofBoth;
    const resident = beforeSteps + ofSteps;
    const held = (onDevice ? cacheBytes : 0) + laidOutBytes;
    const most = Math.max(
      ...[prefill, assigned, step].map(({ peakBytes, graphBytes }) => peakBytes - graphBytes - held),
    );
    await cache.dispose();
    return {
      laidOutBytes,
      graphBytes: resident,
      callBytes: Math.max(0, most),
      prefill,
      step,
      prefillRows: cache.prefillRows,
    };
  });
  const share = shape.slots / own.slots; // of a whole lane, where they are not all of one size
  return {
    lanes: slots,
    cacheBytes: bytesOf(cacheSpecs(config, shape) as ReturnType<typeof weightSpecs>),
    sentBytes: slots.length > 1 && base === undefined ? slots.length * bytesOf(weightSpecs(config)) : 0,
    ...lane,
    laidOutBytes: slots.length * lane.laidOutBytes,
    graphBytes: share * lane.graphBytes,
    callBytes: share * lane.callBytes,
  };
}
