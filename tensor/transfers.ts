/** What crosses between this process's memory and a provider's: for tests, and for whoever wonders where time goes. */
import type { HostArray } from "./values.js";

/** One array that was copied in or out. */
export interface Transfer {
  /** Name of the compiled function; "upload" and "read" are single tensors on their way to a GPU buffer and back. */
  readonly by: string;
  readonly direction: "in" | "out";
  /** Name of the input or output. */
  readonly name: string;
  readonly bytes: number;
}

const watchers = new Set<(transfer: Transfer) => void>();

/**
 * Calls back for every array that sessions of this thread are fed from host memory or return to it. On cpu that is
 * everything but what stands in files; on webgpu it is what does not stay in GPU buffers.
 * @returns ends the watch
 */
export function watchTransfers(watcher: (transfer: Transfer) => void): () => void {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

export function reportTransfer(
  by: string,
  direction: Transfer["direction"],
  name: string,
  data: HostArray,
): void {
  for (const watcher of watchers) watcher({ by, direction, name, bytes: data.byteLength });
}
