/** `retort serve` as a process of its own, and clients that ask it as others' clients do. */
import { type ChildProcess, spawn } from "node:child_process";
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
    void ended.then((how) => reject(new Error(`the service ended (${how}): ${stderr}`)));
    child.stdout.on("data", (chunk) => {
      stdout += String(chunk);
      if (!stdout.includes("\n")) return;
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

export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await condition()); tries++) {
    if (tries > 1500) throw new Error("waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
