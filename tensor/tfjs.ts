/**
 * tfjs, loaded when the first op is called: with its gradients it takes 0.1 s of a core, in every process and thread, and most
 * of them only hand on what others compute. Lists the names of tfjs-core that we use; import it as `tf`.
 */
import { createRequire } from "node:module";
import type * as Core from "@tensorflow/tfjs-core";

export type * from "@tensorflow/tfjs-core";

const require = createRequire(import.meta.url);
let core: typeof Core | null = null;
const registrations: (() => void)[] = [];

/**
 * Required, not imported: for an import Node first searches 1.2 MB of CommonJS for the names of exports, which takes three
 * times as long as to run it.
 */
function loaded(): typeof Core {
  if (core !== null) return core;
  core = require("@tensorflow/tfjs-core") as typeof Core;
  require("@tensorflow/tfjs-backend-cpu");
  // Brings the gradients of all ops, as @tensorflow/tfjs does, which is this and as much again that nothing here calls.
  createRequire(require.resolve("@tensorflow/tfjs"))("@tensorflow/tfjs-layers");
  for (const register of registrations.splice(0)) register();
  return core;
}

/** Calls `register`, which adds kernels or gradients to tfjs, once tfjs is there and has its own. */
export function whenLoaded(register: () => void): void {
  if (core === null) registrations.push(register);
  else register();
}

type Functions = {
  [K in keyof typeof Core]: (typeof Core)[K] extends (...given: never[]) => unknown ? K : never;
}[keyof typeof Core];
type Spaces = "backend_util" | "broadcast_util" | "fused" | "slice_util" | "util";

const op = <K extends Functions>(name: K): (typeof Core)[K] =>
  ((...given: never[]) =>
    (loaded()[name] as (...given: never[]) => unknown)(...given)) as unknown as (typeof Core)[K];

const space = <K extends Spaces>(name: K): (typeof Core)[K] =>
  new Proxy({} as (typeof Core)[K], { get: (_, key) => Reflect.get(loaded()[name], key) as unknown });

export const abs = op("abs");
export const add = op("add");
export const backend = op("backend");
export const broadcastTo = op("broadcastTo");
export const cast = op("cast");
export const clipByValue = op("clipByValue");
export const clone = op("clone");
export const concat = op("concat");
export const cumsum = op("cumsum");
export const customGrad = op("customGrad");
export const div = op("div");
export const enableProdMode = op("enableProdMode");
export const engine = op("engine");
export const env = op("env");
export const equal = op("equal");
export const exp = op("exp");
export const expandDims = op("expandDims");
export const fill = op("fill");
export const gather = op("gather");
export const gatherND = op("gatherND");
export const getBackend = op("getBackend");
export const getGradient = op("getGradient");
export const greater = op("greater");
export const greaterEqual = op("greaterEqual");
export const keep = op("keep");
export const less = op("less");
export const lessEqual = op("lessEqual");
export const log = op("log");
export const logSoftmax = op("logSoftmax");
export const logicalAnd = op("logicalAnd");
export const logicalNot = op("logicalNot");
export const matMul = op("matMul");
export const max = op("max");
export const maximum = op("maximum");
export const mean = op("mean");
export const min = op("min");
export const minimum = op("minimum");
export const mul = op("mul");
export const neg = op("neg");
export const oneHot = op("oneHot");
export const onesLike = op("onesLike");
export const pad = op("pad");
export const range = op("range");
export const registerBackend = op("registerBackend");
export const registerGradient = op("registerGradient");
export const registerKernel = op("registerKernel");
export const reshape = op("reshape");
export const rsqrt = op("rsqrt");
export const scalar = op("scalar");
export const scatterND = op("scatterND");
export const setBackend = op("setBackend");
export const sigmoid = op("sigmoid");
export const slice = op("slice");
export const softmax = op("softmax");
export const split = op("split");
export const sqrt = op("sqrt");
export const square = op("square");
export const sub = op("sub");
export const sum = op("sum");
export const tensor = op("tensor");
export const tensor1d = op("tensor1d");
export const tensor2d = op("tensor2d");
export const tidy = op("tidy");
export const tile = op("tile");
export const topk = op("topk");
export const transpose = op("transpose");
export const unregisterGradient = op("unregisterGradient");
export const unsortedSegmentSum = op("unsortedSegmentSum");
export const where = op("where");
export const zeros = op("zeros");
export const zerosLike = op("zerosLike");

export const backend_util = space("backend_util");
export const broadcast_util = space("broadcast_util");
export const fused = space("fused");
export const slice_util = space("slice_util");
export const util = space("util");
