import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { replaceFile } from "../checkpoints/index.js";
import { ConfigError } from "../core/index.js";

/** In the format of `sha256sum`, so that `sha256sum -c SHA256SUMS` checks a folder too. */
const SUMS = "SHA256SUMS";

function sha256(file: string): string {
  const hash = createHash("sha256");
  const piece = Buffer.alloc(1 << 22);
  const fd = openSync(file, "r");
  try {
    for (let count = 1; count > 0; ) {
      count = readSync(fd, piece);
      hash.update(piece.subarray(0, count));
    }
  } finally {
    closeSync(fd);
  }
  return hash.digest("hex");
}

/**
 * Checks the files of a policy folder against its SHA256SUMS; a folder without one is not checked.
 * @throws ConfigError naming the file that is not the one that was written
 */
export function verifyChecksums(folder: string): void {
  const sums = join(folder, SUMS);
  if (!existsSync(sums)) return;
  for (const line of readFileSync(sums, "utf8").split("\n")) {
    const [, sum, name] = /^([0-9a-f]{64}) [ *](.+)$/.exec(line) ?? [];
    if (name === undefined) continue;
    const file = join(folder, name);
    if (existsSync(file) && sha256(file) === sum) continue;
    throw new ConfigError({
      at: file,
      need: `the file that ${SUMS} lists; it is missing or was changed`,
      fix: `Restore it, or remove ${sums} if the change is meant.`,
    });
  }
}

/** Writes SHA256SUMS of the named files. */
export async function writeChecksums(folder: string, names: readonly string[]): Promise<void> {
  const lines = names.map((name) => `${sha256(join(folder, name))}  ${name}\n`);
  await replaceFile(join(folder, SUMS), lines.join(""));
}
