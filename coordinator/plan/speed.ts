/** How fast a machine computes, and how long a plan's work takes on it. */

import type { DryStage, Provider } from "../../tensor/index.js";
import { compile, providerState } from "../../tensor/index.js";
import * as tf from "../../tensor/tfjs.js";
import { hasGpuDevice } from "../devices.js";

export interface Speed {
  /** Floating-point operations a second, of large matrix products. */
  readonly flops: number;
  /** Bytes a second, read and written. */
  readonly bandwidth: number;
  /** false: told by the user, of a device that is not here. */
  readonly isMeasured: boolean;
}

/** What a node costs beside its work: ONNX Runtime's own on a CPU; a kernel's launch on a GPU, assumed and not measured. */
const SECONDS_PER_NODE: Record<Provider, number> = { cpu: 2e-6, tensorflow: 2e-5, webgpu: 2e-5, cuda: 5e-6 };

export type Work = Pick<DryStage, "flops" | "movedBytes" | "productBytes" | "nodes">;

/** Seconds of some work: products take what is longer, their operations or their bytes; all else, its bytes. */
export function secondsOf(work: Work, speed: Speed, provider: Provider): number {
  const products = Math.max(work.flops / speed.flops, work.productBytes / speed.bandwidth);
  const rest = (work.movedBytes - work.productBytes) / speed.bandwidth;
  return products + rest + work.nodes * SECONDS_PER_NODE[provider];
}

const PROBE_SECONDS = 0.4;

/** Least seconds of a run, over those that fit in `PROBE_SECONDS`, after one that is not counted. */
async function leastSeconds(run: () => Promise<unknown>): Promise<number> {
  await run();
  const end = performance.now() + PROBE_SECONDS * 1000;
  let least = Number.POSITIVE_INFINITY;
  do {
    const started = performance.now();
    await run();
    least = Math.min(least, (performance.now() - started) / 1000);
  } while (performance.now() < end);
  return least;
}

/** Matrix products and a sweep over memory, through the runtime that the run will use. @returns null where it is not here */
export async function measureSpeed(provider: Provider, threads: number | undefined): Promise<Speed | null> {
  if (provider === "tensorflow") return null;
  if (provider !== "cpu" && !(hasGpuDevice() && (await providerState(provider)).works)) return null;
  const options = { provider, keepOnDevice: ["y"], ...(threads === undefined ? {} : { threads }) };
  const side = 768;
  const matrix = { shape: [side, side], dtype: "float32" as const };
  const product = await compile(
    ({ a, b }) => ({ y: tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D) }),
    { a: matrix, b: matrix },
    { ...options, name: "speed of products" },
  );
  const long = 2 ** 24;
  const sweep = await compile(
    ({ x }) => ({ y: tf.reshape(tf.sum(tf.mul(x!, x!)), [1]) }),
    { x: { shape: [long], dtype: "float32" } },
    { ...options, name: "speed of memory" },
  );
  const [a, x] = [new Float32Array(side * side).fill(1), new Float32Array(long).fill(1)];
  const perProduct = await leastSeconds(async () => (await product.run({ a, b: a })).y);
  const perSweep = await leastSeconds(async () => (await sweep.run({ x })).y);
  await product.dispose();
  await sweep.dispose();
  // The squares are written and read again, beside the two readings of x.
  return { flops: (2 * side ** 3) / perProduct, bandwidth: (16 * long) / perSweep, isMeasured: true };
}
