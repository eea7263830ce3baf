import { isFileTensor, isHostArray, placeOn } from "../tensor/index.js";
import type { GraphOptions } from "./graphs.js";
import type { LiveState } from "./learner-state.js";

/** Whether all of the state but the weights stays in host memory while a GPU computes. */
export const isOffloaded = ({ optimizer, compile }: Pick<GraphOptions, "optimizer" | "compile">): boolean =>
  optimizer.type === "adamw" && optimizer.offload && compile.provider === "webgpu";

/**
 * The state with all of it where the provider computes. On webgpu what a fresh or a saved state holds in host memory goes
 * into GPU buffers, once, each into one of its own, and every step after that feeds buffers; offloaded, the weights alone do.
 * Elsewhere it stays as it is.
 */
export async function placedState(
  state: LiveState,
  shapes: Readonly<Record<string, readonly number[]>>,
  options: Pick<GraphOptions, "optimizer" | "compile">,
): Promise<LiveState> {
  const { provider } = options.compile;
  const here = Object.entries(state.values).filter(
    ([key, value]) =>
      (isHostArray(value) || isFileTensor(value)) && (key.startsWith("weights/") || !isOffloaded(options)),
  );
  if (provider !== "webgpu" || here.length === 0) return state;
  const specs = Object.fromEntries(
    here.map(([key]) => [key, { shape: shapes[key]!, dtype: "float32" as const }]),
  );
  return {
    ...state,
    values: { ...state.values, ...(await placeOn(provider, Object.fromEntries(here), specs)) },
  };
}
