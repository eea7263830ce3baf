import { Command } from "commander";

interface CacheOptions {
  readonly remove?: string;
  readonly removeUnused?: boolean;
  readonly json?: boolean;
}

/** `retort cache`: the widened weights that were kept, and their removal. */
export const cacheCommand = (): Command =>
  new Command("cache")
    .description("List what the cache of widened weights holds, or remove of it.")
    .option("--remove <id>", "remove one entry; the beginning of its id is enough")
    .option("--remove-unused", "remove the entries whose policy is gone from where it was")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      `
Large policies that are published in bfloat16 or float16 are widened to float32 once, in the folder RETORT_CACHE, else
retort in XDG_CACHE_HOME, else ~/.cache/retort. What is removed is made again when it is needed.

Examples:
  $ retort cache
  $ retort cache --remove-unused`,
    )
    .action(async ({ remove, removeUnused, json }: CacheOptions) => {
      const { cacheEntries, removeCacheEntry } = await import("../policy/index.js");
      const unused = removeUnused ? cacheEntries().filter(({ isInUse }) => !isInUse) : [];
      for (const id of [...(remove === undefined ? [] : [remove]), ...unused.map(({ id }) => id)])
        process.stderr.write(`removed ${removeCacheEntry(id).folder}\n`);
      const entries = cacheEntries();
      if (json) process.stdout.write(`${JSON.stringify(entries)}\n`);
      else
        for (const { id, bytes, files, isInUse } of entries)
          process.stdout.write(
            `${id}  ${(bytes / 1e9).toFixed(2)} GB  ${files[0]}${isInUse ? "" : " (gone)"}\n`,
          );
    });
