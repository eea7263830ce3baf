/** What a checkpoint holds and the sums that prove it: `manifest.json`, written last. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

const FileEntry = z.strictObject({ bytes: z.int().nonnegative(), sha256: z.string().length(64) });

const Body = z.strictObject({
  format: z.literal(1),
  step: z.int().nonnegative(),
  metrics: z.record(z.string(), z.number()),
  files: z.record(z.string(), FileEntry),
});
export type Manifest = z.infer<typeof Body>;

const Signed = z.strictObject({ ...Body.shape, sha256: z.string() });

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

/** The manifest's text; it carries a sum of itself, so that a flipped bit in a metric is seen too. */
export const encodeManifest = (body: Manifest): string =>
  `${JSON.stringify({ ...body, sha256: sha256(JSON.stringify(body)) }, null, 2)}\n`;

/** @throws Error when the text is not a manifest, or not the one that was written */
export function decodeManifest(text: string): Manifest {
  const { sha256: claimed, ...rest } = Signed.parse(JSON.parse(text));
  const { format, step, metrics, files } = rest;
  const body: Manifest = { format, step, metrics, files };
  if (sha256(JSON.stringify(body)) !== claimed)
    throw new Error("manifest.json does not match its own checksum");
  return body;
}

/** Length and SHA-256 of a file's bytes. */
export async function fingerprint(path: string): Promise<z.infer<typeof FileEntry>> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk as Buffer);
    bytes += (chunk as Buffer).length;
  }
  return { bytes, sha256: hash.digest("hex") };
}

/**
 * The manifest of a checkpoint folder, after every file was read and compared.
 * @throws Error that names the first file that is missing, cut or changed
 */
export async function verifiedManifest(folder: string): Promise<Manifest> {
  const manifest = decodeManifest(await readFile(join(folder, "manifest.json"), "utf8"));
  for (const [name, want] of Object.entries(manifest.files)) {
    const path = join(folder, name);
    const { size } = await stat(path);
    if (size !== want.bytes) throw new Error(`${name} has ${size} bytes instead of ${want.bytes}`);
    if ((await fingerprint(path)).sha256 !== want.sha256)
      throw new Error(`${name} does not match its checksum`);
  }
  return manifest;
}
