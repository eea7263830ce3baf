import { randomStream } from "../core/index.js";

/** Which task a position of the draw order is, and how often the whole set has been through before it. */
export interface Draw {
  readonly taskIndex: number;
  readonly epoch: number;
}

/**
 * The draw order of a run: the task set in a fresh order each epoch. A pure function of (seed, position), so a resumed
 * run needs no state of it.
 * @param position - 0 for the first group of the run
 */
export function createDrawOrder(seed: number, taskCount: number): (position: number) => Draw {
  const orders = new Map<number, number[]>();
  const order = (epoch: number): number[] => {
    const known = orders.get(epoch);
    if (known !== undefined) return known;
    const indices = Array.from({ length: taskCount }, (_, index) => index);
    const shuffled = randomStream(seed, "draw", epoch).shuffle(indices);
    orders.clear();
    orders.set(epoch, shuffled);
    return shuffled;
  };
  return (position) => {
    const epoch = Math.floor(position / taskCount);
    return { taskIndex: order(epoch)[position % taskCount]!, epoch };
  };
}
