import type { CompiledFunction } from "../tensor/index.js";

/** Graphs by what they are compiled for; the one that was asked for last stands at the end. */
export type KeptGraphs<Key> = Map<Key, Promise<CompiledFunction>>;

/** A graph, compiled when it is first asked for. One whose compiling failed is compiled when it is asked for again. */
export function keptGraph<Key>(
  graphs: KeptGraphs<Key>,
  key: Key,
  make: () => Promise<CompiledFunction>,
): Promise<CompiledFunction> {
  const graph = graphs.get(key) ?? make();
  graphs.delete(key);
  graphs.set(key, graph);
  graph.catch(() => {
    if (graphs.get(key) === graph) graphs.delete(key);
  });
  return graph;
}

export async function disposeGraphs(graphs: KeptGraphs<unknown>): Promise<void> {
  for (const graph of graphs.values()) await (await graph).dispose();
}
