/** `retort serve` as a process of its own, and clients that ask it as others' clients do. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../core/index.js";

const main = join(packageRoot, "dist", "cli", "main.js");

export interface ServiceProcess {
  readonly url: string;
  readonly child: ChildProcess;
  readonly announced: Record<string, unknown>;
  readonly stderr: () => string;
  /** Exit code, or the signal's name. */
  readonly ended: Promise<number | string>;
  stop(signal?: NodeJS.Signals): Promise<number | string>;
}

export function startService(
  args: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
  what: readonly string[] = ["--verifier", "--port", "0"],
): Promise<ServiceProcess> {
  const child = spawn(process.execPath, [main, "serve", ...what, "--json", ...args], {
    cwd: packageRoot,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk);
  });
  const ended = new Promise<number | string>((resolve) =>
    child.once("close", (code, signal) => resolve(code ?? signal ?? "unknown")),
  );
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`the service did not say within ${PATIENCE_MS / 1000} s where it listens: ${stderr}`));
    }, PATIENCE_MS);
    void ended.then((how) => {
      clearTimeout(late);
      reject(new Error(`the service ended (${how}): ${stderr}`));
    });
    child.stdout.on("data", (chunk) => {
      stdout += String(chunk);
      if (!stdout.includes("\n")) return;
      clearTimeout(late);
      const announced = JSON.parse(stdout) as Record<string, unknown>;
      const stop = (signal: NodeJS.Signals = "SIGTERM"): Promise<number | string> => {
        child.kill(signal);
        return ended;
      };
      resolve({ url: String(announced.url), child, announced, stderr: () => stderr, ended, stop });
    });
  });
}

export interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: a test asserts what it reads
  readonly body: any;
  readonly headers: Headers;
}

export async function post(
  service: ServiceProcess,
  path: string,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const response = await fetch(`${service.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return answerOf(response);
}

export async function get(
  service: ServiceProcess,
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  return answerOf(await fetch(`${service.url}${path}`, { headers }));
}

async function answerOf(response: Response): Promise<Answer> {
  const text = await response.text();
  const isJson = (response.headers.get("content-type") ?? "").startsWith("application/json");
  return {
    status: response.status,
    body: isJson ? (JSON.parse(text) as unknown) : text,
    headers: response.headers,
  };
}

/** Values of a counter or gauge, by its labels as they stand in the text; "" for none. */
export async function metric(service: ServiceProcess, name: string): Promise<Record<string, number>> {
  const { body } = await get(service, "/metrics");
  const rows = String(body)
    .split("\n")
    .flatMap((line) => {
      const [, labels = "", value] = new RegExp(`^${name}(\\{.*\\})? (\\S+)$`).exec(line) ?? [];
      return value === undefined ? [] : [[labels, Number(value)] as const];
    });
  return Object.fromEntries(rows);
}

export const total = (values: Readonly<Record<string, number>>): number =>
  Object.values(values).reduce((sum, value) => sum + value, 0);

/** How long anything may take on a machine that is busy with other things. */
const PATIENCE_MS = 90_000;

/** Looks again and again until it holds. @throws Error that says what was waited for */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const since = Date.now(); !(await holds()); await new Promise((go) => setTimeout(go, 20)))
    if (Date.now() - since > PATIENCE_MS) throw new Error(`waited in vain: ${what}`);
}

/** The process that runs this service's sandboxes. */
export function brokerOf({ child }: ServiceProcess): number {
  const found = readdirSync("/proc").find((pid) => {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("broker-main.js")) return false;
      return readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ")[1] === String(child.pid);
    } catch {
      return false; // no process, or it ended while we read
    }
  });
  if (found === undefined) throw new Error(`process ${child.pid} has no broker`);
  return Number(found);
}

/** Processes of this machine whose command line holds `marker`. */
export function processesWith(marker: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(marker);
    } catch {
      return false;
    }
  });
}

/** Nothing is judged until `release`: what runs and waits now does so however long the test takes. */
export function holdPrograms(service: ServiceProcess): { release(): void } {
  const broker = brokerOf(service);
  process.kill(broker, "SIGSTOP");
  return { release: () => void process.kill(broker, "SIGCONT") };
}
