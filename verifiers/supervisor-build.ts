/** Compiles the sandbox's supervisor once; the result is kept under .cache/ by the hash of its source. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../core/index.js";

export interface SupervisorBuild {
  /** null: no C compiler, or it failed; each test then gets a bubblewrap of its own. */
  readonly path: string | null;
  readonly note: string;
}

const COMPILERS = ["cc", "gcc", "clang"];

/** First of: the package's .cache, the user's cache folder, one of the user's own under the temporary folder. */
function cacheFolder(): string {
  const personal = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "retort");
  for (const folder of [join(packageRoot, ".cache", "supervisor"), personal]) {
    try {
      mkdirSync(folder, { recursive: true });
      accessSync(folder, constants.W_OK);
      return folder;
    } catch {
      // the next one
    }
  }
  const shared = join(tmpdir(), `retort-supervisor-${process.getuid?.() ?? 0}`);
  mkdirSync(shared, { recursive: true, mode: 0o700 });
  // Anyone may have made it before us, and what lies in it will be run.
  const { uid, mode } = lstatSync(shared);
  return uid === process.getuid?.() && (mode & 0o77) === 0 ? shared : mkdtempSync(`${shared}-`);
}

/**
 * Static first: a dynamic one costs 0.5 ms more at every start, and needs the host's libc in the sandbox.
 * @param source - path of supervisor.c
 */
export function buildSupervisor(source = join(packageRoot, "verifiers", "supervisor.c")): SupervisorBuild {
  const hash = createHash("sha256")
    .update(readFileSync(source))
    .update(process.arch)
    .digest("hex")
    .slice(0, 16);
  const shared = join(packageRoot, ".cache", "supervisor", `supervisor-${hash}`);
  if (existsSync(shared)) return { path: shared, note: "cached" };
  const target = join(cacheFolder(), `supervisor-${hash}`);
  if (existsSync(target)) return { path: target, note: "cached" };
  const trial = `${target}.${process.pid}`;
  const problems: string[] = [];
  for (const compiler of COMPILERS) {
    for (const flags of [["-static"], []]) {
      try {
        execFileSync(compiler, ["-O2", ...flags, "-o", trial, source], {
          stdio: ["ignore", "ignore", "pipe"],
        });
        renameSync(trial, target);
        return { path: target, note: `${compiler} -O2 ${flags.join(" ")}`.trim() };
      } catch (cause) {
        problems.push(cause instanceof Error ? cause.message.split("\n")[0]! : String(cause));
      }
    }
  }
  rmSync(trial, { force: true });
  return { path: null, note: `no supervisor: ${problems[0] ?? "no C compiler"}` };
}
