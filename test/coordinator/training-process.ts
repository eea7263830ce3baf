/** A training run as a process of its own, and what it leaves behind. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../core/index.js";
import { main, type Outcome } from "../cli/retort.js";

export interface TrainingProcess {
  readonly pid: number;
  readonly outcome: Promise<Outcome>;
  /** Everything printed to stderr so far. */
  stderr(): string;
  signal(name: NodeJS.Signals): void;
  /** Waits until something holds. @throws Error when the process ends first, or it never does */
  until(what: string, holds: () => boolean): Promise<void>;
}

/** How long anything may take on a machine that is busy with other things. */
const PATIENCE_MS = 90_000;

/** @param node - the program that runs it */
export function startTraining(args: readonly string[], node = process.execPath): TrainingProcess {
  const child = spawn(node, [main, "train", ...args], { cwd: packageRoot });
  let [stdout, stderr] = ["", ""];
  let isOver = false;
  child.stdout.on("data", (chunk) => {
    stdout += String(chunk);
  });
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk);
  });
  const outcome = new Promise<Outcome>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      isOver = true;
      resolve({ code, stdout, stderr });
    });
  });
  return {
    pid: child.pid!,
    outcome,
    stderr: () => stderr,
    signal: (name) => child.kill(name),
    until: async (what, holds) => {
      for (const since = Date.now(); !holds(); ) {
        if (isOver) throw new Error(`the run ended before ${what}:\n${stderr}`);
        if (Date.now() - since > PATIENCE_MS) throw new Error(`waited in vain for ${what}:\n${stderr}`);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    },
  };
}

/** Runs to the end. @throws Error where it does not exit with 0 */
export async function train(args: readonly string[], node = process.execPath): Promise<Outcome> {
  const outcome = await startTraining(args, node).outcome;
  if (outcome.code !== 0) throw new Error(`exit code ${outcome.code}:\n${outcome.stderr}`);
  return outcome;
}

const linesOf = (path: string): Record<string, unknown>[] => {
  try {
    const text = readFileSync(path, "utf8");
    const whole = text.slice(0, text.lastIndexOf("\n") + 1);
    return whole.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line)]));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
};

export const metrics = (run: string): Record<string, unknown>[] => linesOf(join(run, "metrics.jsonl"));
export const stepRows = (run: string): Record<string, unknown>[] =>
  metrics(run).filter(({ kind }) => kind === "step");
export const lastStep = (run: string): number => Number(stepRows(run).at(-1)?.step ?? 0);
export const rollouts = (run: string): Record<string, unknown>[] =>
  readdirSync(join(run, "rollouts"))
    .sort()
    .flatMap((name) => linesOf(join(run, "rollouts", name)));

const withoutClock = (row: Record<string, unknown>): Record<string, unknown> => {
  const { timing: _timing, memory: _memory, ...rest } = row;
  return rest;
};

/** Everything of a run that must repeat: rows without the clock's part, and the bits of every checkpoint that was kept. */
export function numbersOf(run: string): Record<string, unknown> {
  const checkpoints = readdirSync(join(run, "checkpoints")).sort();
  const bits = (step: string, file: string): string =>
    readFileSync(join(run, "checkpoints", step, file)).toString("base64");
  const last = checkpoints.at(-1)!;
  const policy = readdirSync(join(run, "checkpoints", last, "policy"));
  const isWeights = (name: string): boolean => name.endsWith(".safetensors");
  return {
    metrics: metrics(run).map(withoutClock),
    rollouts: rollouts(run).map(withoutClock),
    last,
    weights: bits(last, `policy/${policy.find(isWeights)!}`),
    learner: bits(last, "learner.safetensors"),
  };
}

interface ProcessLine {
  readonly pid: number;
  readonly parent: number;
  readonly name: string;
}

function allProcesses(): ProcessLine[] {
  return readdirSync("/proc").flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
      const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      const name = stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")"));
      return state === "Z" ? [] : [{ pid: Number(entry), parent: Number(parent), name }];
    } catch {
      return []; // it ended while we read
    }
  });
}

/** Living processes below one, whatever their depth. */
export function descendants(pid: number): ProcessLine[] {
  const all = allProcesses();
  const found: ProcessLine[] = [];
  const visit = (parent: number): void => {
    for (const each of all.filter((process) => process.parent === parent)) {
      found.push(each);
      visit(each.pid);
    }
  };
  visit(pid);
  return found;
}

/** Kills a run. @returns names of processes of it that live on half a minute later */
export async function killHard(run: TrainingProcess): Promise<string[]> {
  const before = descendants(run.pid);
  run.signal("SIGKILL");
  await run.outcome;
  const left = (): ProcessLine[] => {
    const pids = new Set(before.map(({ pid }) => pid));
    return allProcesses().filter(({ pid, parent }) => pids.has(pid) || pids.has(parent));
  };
  for (const since = Date.now(); left().length > 0 && Date.now() - since < 30_000; )
    await new Promise((resolve) => setTimeout(resolve, 50));
  return left().map(({ name }) => name);
}
