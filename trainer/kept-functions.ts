/**
 * Compiled functions by name, made when first needed; of too many, the one unused for longest is given up. One whose making
 * failed is made again when it is asked for again.
 */
export interface KeptFunctions<T> {
  once(name: string, make: () => Promise<T>): Promise<T>;
  dispose(): Promise<void>;
}

export function keepFunctions<T extends { dispose(): Promise<void> }>(most: number): KeptFunctions<T> {
  const made = new Map<string, Promise<T>>();
  return {
    once: (name, make) => {
      const kept = made.get(name) ?? make();
      kept.catch(() => {
        if (made.get(name) === kept) made.delete(name);
      });
      made.delete(name); // and to the end: the first of the map is the one unused for longest
      made.set(name, kept);
      if (made.size > most) {
        const [oldest, unused] = made.entries().next().value!;
        made.delete(oldest);
        void unused.then((compiled) => compiled.dispose()).catch(() => {}); // its caller has seen a failure
      }
      return kept;
    },
    dispose: async () => {
      for (const kept of made.values()) await (await kept).dispose();
      made.clear();
    },
  };
}
