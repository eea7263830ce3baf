/**
 * The folder that holds everything of a run: `config.yaml` (resolved), `environment.json`, `metrics.jsonl`, `rollouts/*.jsonl`,
 * `checkpoints/`, `report.json`. Rows written after the checkpoint that a run resumes from are cut away.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { parse, stringify } from "yaml";
import { replaceFile } from "../checkpoints/index.js";
import { ConfigError, makeFolder } from "../core/index.js";
import { RunConfig } from "./config.js";
import { differences } from "./config-difference.js";
import { Journal } from "./journal.js";
import { lockFolder } from "./run-lock.js";

/** Where a sampling server stands, and how patiently it is asked. */
const SERVER_KEYS = [
  "base_url",
  "model",
  "api_key_env",
  "concurrency",
  "timeout_s",
  "patience_s",
  "weights.dir",
];
/** May differ on resume: where the run lies, samples and judges, how its weights are saved, what it says. All else would change its numbers. */
const FREE_ON_RESUME = [
  ...["run.dir", "checkpoint.dtype", "logging", "verifier.pool", "verifier.redis"],
  ...SERVER_KEYS.map((key) => `rollout.engine.${key}`),
];

/** Lengths in bytes of every journal of a run, by file name relative to the run directory. */
export type Marks = Readonly<Record<string, number>>;

export interface RunDirectoryOptions {
  /** The resolved configuration: plain data that YAML can hold. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly resume: boolean;
  /** Told, in a sentence, what happened to an earlier run in the same place. */
  readonly note?: (line: string) => void;
}

const METRICS = "metrics.jsonl";

/** Waits until the disk has a folder's entries: after a power cut the files that a checkpoint names must be there. */
function syncEntries(folder: string): void {
  const fd = openSync(folder, "r");
  fsyncSync(fd);
  closeSync(fd);
}

export class RunDirectory {
  readonly folder: string;
  readonly checkpointsFolder: string;
  /** True where an earlier run was found and this one goes on with it. */
  readonly isResumed: boolean;
  readonly #journals = new Map<string, Journal>();
  readonly #release: () => void;

  constructor(folder: string, isResumed: boolean, release: () => void) {
    this.folder = folder;
    this.checkpointsFolder = join(folder, "checkpoints");
    this.isResumed = isResumed;
    this.#release = release;
    makeFolder(join(folder, "rollouts"));
  }

  /** Appends a row to `metrics.jsonl`: whatever depends on the clock or the machine's load stands in its `timing` and `memory`. */
  appendMetrics(row: Readonly<Record<string, unknown>>): void {
    this.#journal(METRICS).append(row);
  }

  /** Appends rows to `rollouts/NAME.jsonl`. */
  appendRollouts(name: string, rows: readonly unknown[]): void {
    this.#journal(`rollouts/${name}.jsonl`).append(...rows);
  }

  /** Lengths of all journals, after the disk has them; a checkpoint records them. */
  marks(): Marks {
    const marks = Object.fromEntries(this.#files().map((name) => [name, this.#journal(name).mark()]));
    for (const folder of [this.folder, join(this.folder, "rollouts")]) syncEntries(folder);
    return marks;
  }

  /** Cuts every journal back to a checkpoint's marks ({} cuts all) and removes those that it does not know. */
  cutBack(marks: Marks): void {
    for (const name of Object.keys(marks)) this.#journal(name).cutBack(marks[name]!);
    for (const name of this.#files()) {
      if (Object.hasOwn(marks, name)) continue;
      this.#journals.get(name)?.close();
      this.#journals.delete(name);
      rmSync(join(this.folder, name), { force: true });
    }
    for (const name of ["report.json", "report.html"]) rmSync(join(this.folder, name), { force: true });
  }

  /** Writes `report.json`, and `report.html` where there is a page to show. */
  async writeReport(report: Readonly<Record<string, unknown>>, html?: string): Promise<void> {
    if (html !== undefined) await replaceFile(join(this.folder, "report.html"), html);
    await replaceFile(join(this.folder, "report.json"), `${JSON.stringify(report, null, 2)}\n`);
  }

  /** Closes the journals and lets the directory go. */
  close(): void {
    for (const journal of this.#journals.values()) journal.close();
    this.#journals.clear();
    this.#release();
  }

  #files(): string[] {
    const rollouts = readdirSync(join(this.folder, "rollouts")).filter((name) => name.endsWith(".jsonl"));
    const metrics = existsSync(join(this.folder, METRICS)) ? [METRICS] : [];
    return [...metrics, ...rollouts.sort().map((name) => `rollouts/${name}`)];
  }

  #journal(name: string): Journal {
    let journal = this.#journals.get(name);
    if (journal === undefined) {
      journal = new Journal(join(this.folder, name));
      this.#journals.set(name, journal);
    }
    return journal;
  }
}

/** Moves an earlier run out of the way; its results are never overwritten. @returns the lock of the fresh folder */
function setAside(folder: string, note: (line: string) => void): () => void {
  let number = 1;
  while (existsSync(`${folder}.${number}`)) number++;
  const aside = `${folder}.${number}`;
  renameSync(folder, aside);
  mkdirSync(folder);
  const release = lockFolder(folder); // the old lock moved along with the old folder
  rmSync(join(aside, "run.lock"), { force: true });
  note(`The earlier run in ${folder} was moved to ${aside}; use --resume to go on with a run instead.`);
  return release;
}

/** What a run began with; keys that were not known then have their defaults, which change nothing. */
function savedConfig(file: string): unknown {
  try {
    const saved: unknown = parse(readFileSync(file, "utf8"));
    const known = RunConfig.safeParse(saved);
    return known.success ? JSON.parse(JSON.stringify(known.data)) : saved;
  } catch (cause) {
    throw new ConfigError({ at: file, need: `the run's configuration (${(cause as Error).message})`, cause });
  }
}

/** @throws ConfigError that names every key that changed */
function refuseChangedConfig(folder: string, config: unknown): void {
  const before = savedConfig(join(folder, "config.yaml"));
  const changed = differences(before, config, FREE_ON_RESUME);
  if (changed.length === 0) return;
  throw new ConfigError({
    at: folder,
    need: `the configuration that the run began with to --resume it; changed: ${changed.join("; ")}`,
    fix: "Undo the change, or start a new run without --resume.",
  });
}

const OF_A_START = ["config.yaml", "environment.json"];

/** Whether a run was refused, or stopped, before anything came of it: there is what a start itself writes, and empty folders. */
function isUntouched(folder: string): boolean {
  const found = readdirSync(folder, { withFileTypes: true });
  return (
    found.some(({ name }) => name === "config.yaml") &&
    found.every((each) =>
      each.isDirectory()
        ? readdirSync(join(folder, each.name)).length === 0
        : [...OF_A_START, "run.lock"].includes(each.name),
    )
  );
}

/**
 * Opens a run directory for the one process that will write it. A new run sets an earlier one aside, unless nothing came of it; a resumed run goes
 * on in it, and starts from nothing where there is none.
 * @throws ConfigError when another process uses it, or on resume when the configuration changed
 */
export async function openRunDirectory(path: string, options: RunDirectoryOptions): Promise<RunDirectory> {
  const folder = resolve(path);
  const note = options.note ?? (() => {});
  const config: unknown = JSON.parse(JSON.stringify(options.config));
  try {
    makeFolder(folder);
  } catch (cause) {
    throw new ConfigError({ at: "run.dir", got: folder, need: "a folder that can be made", cause });
  }
  let release = lockFolder(folder);
  try {
    if (!options.resume && isUntouched(folder))
      for (const name of OF_A_START) rmSync(join(folder, name), { force: true });
    const hasRun = existsSync(join(folder, "config.yaml"));
    if (hasRun && options.resume) refuseChangedConfig(folder, config);
    if (hasRun && !options.resume) release = setAside(folder, note);
    if (!hasRun && options.resume) note(`There is no run in ${folder} yet: starting from the beginning.`);
    if (!hasRun || !options.resume) {
      await replaceFile(join(folder, "config.yaml"), stringify(config));
    }
    return new RunDirectory(folder, hasRun && options.resume, release);
  } catch (error) {
    release();
    throw error;
  }
}
