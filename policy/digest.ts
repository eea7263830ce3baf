import { createHash } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { fingerprint } from "../checkpoints/index.js";
import { fileDigest } from "./cache-folder.js";
import type { OpenedPolicy } from "./folder.js";

/** Files that decide, beside the weights, what a policy says. */
const TEXTS = [
  ...["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"],
  ...["chat_template.jinja", "model.safetensors.index.json"],
];
const ADAPTER = ["adapter_config.json", "adapter_model.safetensors"];

/** From here on a file's digest is remembered in the cache: to take it again costs a second and more. */
const LARGE_BYTES = 2 ** 28;

async function digestOf(file: string): Promise<string> {
  return statSync(file).size < LARGE_BYTES ? (await fingerprint(file)).sha256 : fileDigest(file);
}

/** A digest of everything in a policy's files that decides what it says, its adapter's too. */
export async function policyDigest({ folder, source }: OpenedPolicy): Promise<string> {
  const weights = [...new Set(Object.values(source.places).map(({ file }) => file))].sort();
  const { adapter } = source;
  const files = [
    ...TEXTS.map((name) => join(folder, name)),
    ...weights,
    ...(adapter === null ? [] : ADAPTER.map((name) => join(adapter.folder, name))),
  ];
  const hash = createHash("sha256");
  for (const file of files)
    if (existsSync(file)) hash.update(JSON.stringify([basename(file), await digestOf(file)]));
  return hash.digest("hex").slice(0, 16);
}
