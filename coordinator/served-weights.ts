/** Weights for a sampling server: a folder for each version, which appears whole or not at all. */
import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { rename } from "node:fs/promises";
import { join, resolve } from "node:path";
import { replaceFile } from "../checkpoints/index.js";
import { ConfigError, makeFolder } from "../core/index.js";
import {
  adapterFiles,
  type DecoderConfig,
  exportPolicy,
  type HostWeights,
  isAdapterFolder,
  policyFolder,
  readAdapter,
  writePolicy,
} from "../policy/index.js";
import type { WeightFolder } from "../rollout/index.js";

export interface ServedPolicy {
  /** Of the run; names the versions. */
  readonly name: string;
  readonly config: DecoderConfig;
  /** Folder of the policy that it started from: its tokenizer goes along, an adapter names it. */
  readonly from: string;
  /** Folder that the server reads too. */
  readonly folder: string;
}

export class ServedWeights {
  readonly #policy: ServedPolicy;
  /** No two processes write, or name, the same version: a server may still hold an earlier run's. */
  readonly #prefix: string;
  readonly #written: string[] = [];

  /** @throws ConfigError for a folder that cannot be made */
  constructor(policy: ServedPolicy) {
    this.#policy = { ...policy, folder: resolve(policy.folder) };
    const plain = policy.name.replace(/[^A-Za-z0-9._-]+/g, "-");
    this.#prefix = `${plain}-${randomBytes(4).toString("hex")}`;
    try {
      makeFolder(this.#policy.folder);
    } catch (cause) {
      throw new ConfigError({
        at: "rollout.engine.weights.dir",
        got: policy.folder,
        need: "a folder that can be made",
        cause,
      });
    }
  }

  /** Writes the weights after so many updates; of the versions before, only the last is kept. */
  write(weights: HostWeights, updates: number): Promise<WeightFolder> {
    return this.#place(`step-${String(updates).padStart(6, "0")}`, (folder) =>
      this.#writeFiles(folder, weights),
    );
  }

  /** Writes a policy or a checkpoint that lies on disk; an adapter as what it is where `config` has one, else merged. */
  writeStored(path: string): Promise<WeightFolder> {
    const { config } = this.#policy;
    return this.#place("stored", async (folder) => {
      if (config.lora !== undefined) return this.#writeFiles(folder, readAdapter(policyFolder(path), config));
      // Merged in float32, as our own sampler adds it in: rounded to the base's type, it would be another policy.
      const type = isAdapterFolder(policyFolder(path)) ? "float32" : "source";
      await exportPolicy(path, folder, { type });
    });
  }

  async #place(label: string, fill: (folder: string) => Promise<void>): Promise<WeightFolder> {
    const version = `${this.#prefix}-${label}`;
    const folder = join(this.#policy.folder, version);
    const temporary = join(this.#policy.folder, `.${version}.tmp`);
    rmSync(temporary, { recursive: true, force: true });
    try {
      await fill(temporary);
    } catch (error) {
      rmSync(temporary, { recursive: true, force: true });
      throw error;
    }
    rmSync(folder, { recursive: true, force: true });
    await rename(temporary, folder);
    const older = this.#written.splice(0).filter((each) => each !== folder);
    this.#written.push(...older.slice(-1), folder);
    for (const each of older.slice(0, -1)) rmSync(each, { recursive: true, force: true });
    return { folder, version };
  }

  async #writeFiles(folder: string, weights: HostWeights): Promise<void> {
    const { config, from } = this.#policy;
    const { lora } = config;
    // In float32: rounded to what the policy was published in, they would not be those of the trainer.
    if (lora === undefined) return writePolicy(folder, config, weights, from, "float32");
    makeFolder(folder);
    const files = adapterFiles({ ...config, lora }, weights, resolve(from));
    for (const [name, content] of Object.entries(files)) await replaceFile(join(folder, name), content);
  }

  /** Removes what it wrote: the checkpoints have it too. */
  remove(): void {
    for (const folder of this.#written.splice(0)) rmSync(folder, { recursive: true, force: true });
  }
}
