/**
 * A folder of checkpoints, one `step-000120/` each. A checkpoint appears whole or not at all: files are written into a
 * hidden folder, synced, and renamed; a damaged one is found by its checksums and passed over.
 */
import { readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ConfigError, makeFolder } from "../core/index.js";
import {
  type Content,
  isOfTheSystem,
  syncFile,
  syncFolder,
  WriteError,
  writeDurably,
} from "./atomic-file.js";
import { decodeManifest, encodeManifest, fingerprint, type Manifest, verifiedManifest } from "./manifest.js";
import { keptSteps } from "./retention.js";

const HIDDEN = /^\.(saving|dropping)-/;
const STEP = /^step-(\d+)$/;

/** A file of a checkpoint: its content, or a function that writes it at the path given. */
export type CheckpointFile = Content | ((path: string) => Promise<void>);

/** A checkpoint whose files were all verified. */
export interface Checkpoint {
  readonly step: number;
  readonly folder: string;
  readonly metrics: Readonly<Record<string, number>>;
  /** Names of its files, relative to `folder`, e.g. "policy/model.safetensors". */
  readonly files: readonly string[];
}

export interface CheckpointStoreOptions {
  /** How many of the newest stay; all when absent. */
  readonly keepLast?: number;
  /** The one with the highest value of this metric stays too. */
  readonly keepBest?: string;
  /** Told, in a sentence, when a damaged checkpoint was passed over. */
  readonly warn?: (line: string) => void;
}

/** A checkpoint could not be saved, as on a full disk. */
export class CheckpointError extends Error {
  override readonly name = "CheckpointError";
  constructor(step: number, cause: Error) {
    super(
      `the checkpoint of step ${step} could not be saved: ${cause.message}. Those before it are whole: make room, then go on with --resume.`,
      { cause },
    );
  }
}

const folderName = (step: number): string => `step-${String(step).padStart(6, "0")}`;

export class CheckpointStore {
  readonly folder: string;
  readonly #options: CheckpointStoreOptions;

  constructor(folder: string, options: CheckpointStoreOptions = {}) {
    this.folder = folder;
    this.#options = options;
  }

  /** Steps that have a folder, ascending; their content is not checked. */
  async steps(): Promise<number[]> {
    const names = await readdir(this.folder).catch(() => [] as string[]);
    return names
      .flatMap((name) => STEP.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
  }

  /** Removes what a killed save or removal left behind. Only the one process that writes here may call it. */
  async cleanUp(): Promise<void> {
    const names = await readdir(this.folder).catch(() => [] as string[]);
    for (const name of names.filter((name) => HIDDEN.test(name))) {
      await rm(join(this.folder, name), { recursive: true, force: true });
    }
  }

  /**
   * Saves one step, then lets go of what need not be kept. Checkpoints of later steps belong to a history that was cut
   * back and are removed.
   * @param files - by name; a name may hold folders, "policy/config.json"
   * @param metrics - numbers to choose the best by
   * @throws CheckpointError where the disk does not take it: the others are whole, and nothing of this one is left
   */
  async save(
    step: number,
    files: Readonly<Record<string, CheckpointFile>>,
    metrics: Readonly<Record<string, number>> = {},
  ): Promise<Checkpoint> {
    const saving = join(this.folder, `.saving-${step}`);
    try {
      makeFolder(this.folder);
      await this.cleanUp();
      const manifest = await this.#write(saving, step, files, metrics);
      await this.#drop(step);
      const folder = join(this.folder, folderName(step));
      await rename(saving, folder);
      await syncFolder(this.folder);
      await this.#prune(step);
      return { step, folder, metrics: manifest.metrics, files: Object.keys(manifest.files) };
    } catch (error) {
      await this.cleanUp();
      throw error instanceof WriteError || isOfTheSystem(error) ? new CheckpointError(step, error) : error;
    }
  }

  async #write(
    saving: string,
    step: number,
    files: Readonly<Record<string, CheckpointFile>>,
    metrics: Readonly<Record<string, number>>,
  ): Promise<Manifest> {
    const manifest: Manifest = { format: 1, step, metrics: { ...metrics }, files: {} };
    const folders = new Set([saving]);
    for (const [name, content] of Object.entries(files)) {
      const path = join(saving, name);
      makeFolder(dirname(path));
      folders.add(dirname(path));
      await (typeof content === "function"
        ? content(path).then(() => syncFile(path))
        : writeDurably(path, content));
      manifest.files[name] = await fingerprint(path);
    }
    makeFolder(saving);
    await writeDurably(join(saving, "manifest.json"), encodeManifest(manifest));
    for (const folder of folders) await syncFolder(folder);
    return manifest;
  }

  /**
   * One step's checkpoint, every file verified.
   * @throws ConfigError when it is missing or damaged
   */
  async load(step: number): Promise<Checkpoint> {
    const folder = join(this.folder, folderName(step));
    try {
      const manifest = await verifiedManifest(folder);
      return { step, folder, metrics: manifest.metrics, files: Object.keys(manifest.files) };
    } catch (cause) {
      throw new ConfigError({
        at: folder,
        need: `an undamaged checkpoint, but ${(cause as Error).message}`,
        cause,
      });
    }
  }

  /** The newest checkpoint that is undamaged; null where there is none. Warns of every damaged one it passes over. */
  async latest(): Promise<Checkpoint | null> {
    for (const step of (await this.steps()).reverse()) {
      try {
        return await this.load(step);
      } catch (error) {
        this.#options.warn?.(`${(error as Error).message} Going back to the one before it.`);
      }
    }
    return null;
  }

  async #drop(step: number): Promise<void> {
    const dropping = join(this.folder, `.dropping-${step}`);
    try {
      // Renamed first: a process killed within the removal leaves no half checkpoint under a real name.
      await rename(join(this.folder, folderName(step)), dropping);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      throw error;
    }
    await rm(dropping, { recursive: true, force: true });
  }

  async #metric(step: number, name: string): Promise<number | undefined> {
    try {
      const text = await readFile(join(this.folder, folderName(step), "manifest.json"), "utf8");
      return decodeManifest(text).metrics[name];
    } catch {
      return undefined; // a damaged manifest is never the best one; `latest` reports it
    }
  }

  async #prune(newest: number): Promise<void> {
    const steps = await this.steps();
    const { keepBest } = this.#options;
    const scores = new Map<number, number>();
    for (const step of keepBest === undefined ? [] : steps) {
      const score = await this.#metric(step, keepBest!);
      if (score !== undefined) scores.set(step, score);
    }
    const kept = keptSteps(steps, { newest, keepLast: this.#options.keepLast ?? Infinity, scores });
    for (const step of steps) if (!kept.has(step)) await this.#drop(step);
  }
}
