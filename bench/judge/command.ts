/** A process started from Node, as every contestant without a broker of its own does it. */
import { spawn } from "node:child_process";

/** Where system tools are looked for: not in whatever version manager the user's shell has. */
export const SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin";

export interface CommandOptions {
  readonly cwd?: string;
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Of the process; its group too. */
  readonly uid?: number;
}

/** @throws Error with the command's stderr when it does not exit with 0; resolves to its stdout */
export function runCommand(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      stdio: ["pipe", "pipe", "pipe"],
      env: { PATH: SYSTEM_PATH, LANG: "C.UTF-8", ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
    });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (bytes: Buffer) => {
      stdout += bytes.toString("utf8");
    });
    child.stderr.on("data", (bytes: Buffer) => {
      stderr += bytes.toString("utf8");
    });
    child.stdin.on("error", () => {}); // a program may end before it reads
    child.stdin.end(options.input ?? "");
    child.on("error", reject);
    child.on("close", (code) =>
      code === 0 ? resolve(stdout) : reject(new Error(`${argv.join(" ")}: exit ${code}: ${stderr.trim()}`)),
    );
  });
}

/** Words of a language's command; the ones measured here need no shell. */
export const words = (command: string): string[] => command.trim().split(/\s+/);
