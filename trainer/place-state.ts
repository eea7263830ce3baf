import { isFileTensor, isHostArray, type Provider, placeOn } from "../tensor/index.js";
import type { LiveState } from "./learner-state.js";

/**
 * The state with all of it where the provider computes. On webgpu what a fresh or a saved state holds in host memory goes
 * into GPU buffers, once, each into one of its own, and every step after that feeds buffers; elsewhere it stays as it is.
 */
export async function placedState(
  state: LiveState,
  shapes: Readonly<Record<string, readonly number[]>>,
  provider: Provider,
): Promise<LiveState> {
  const here = Object.entries(state.values).filter(([, value]) => isHostArray(value) || isFileTensor(value));
  if (provider !== "webgpu" || here.length === 0) return state;
  const specs = Object.fromEntries(
    here.map(([key]) => [key, { shape: shapes[key]!, dtype: "float32" as const }]),
  );
  return {
    ...state,
    values: { ...state.values, ...(await placeOn(provider, Object.fromEntries(here), specs)) },
  };
}
