/** The sandbox's supervisor: in C, compiled once and kept under .cache/ by the hash of its source, or in Perl. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError, makeFolder, packageRoot } from "../core/index.js";
import { PERL, type Supervisor } from "./bubblewrap.js";

export interface SupervisorBuild {
  /** null: no C compiler, or it failed; the one in Perl then takes its place. */
  readonly path: string | null;
  readonly note: string;
}

const COMPILERS = ["cc", "gcc", "clang"];

/** The package's own, and the user's. */
const usualCaches = (): string[] => [
  join(packageRoot, ".cache", "supervisor"),
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "retort"),
];

/** The first of these that can be written to; else one of the user's own under the temporary folder. */
export function writableCache(folders: readonly string[] = usualCaches()): string {
  for (const folder of folders) {
    try {
      makeFolder(folder);
      accessSync(folder, constants.W_OK);
      return folder;
    } catch {
      // the next one
    }
  }
  const shared = join(tmpdir(), `retort-supervisor-${process.getuid?.() ?? 0}`);
  makeFolder(shared, 0o700);
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
  const target = join(writableCache(), `supervisor-${hash}`);
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

/**
 * What may start the tests, best first; null is a bubblewrap for each.
 * @throws ConfigError where what was asked for alone cannot be had
 */
export function supervisorsFor(mode: "auto" | "supervisor" | "perl" | "single"): {
  readonly supervisors: readonly (Supervisor | null)[];
  readonly supervisorNote: string;
} {
  if (mode === "single") return { supervisors: [null], supervisorNote: "as asked" };
  const perl: Supervisor = { kind: "perl", path: join(packageRoot, "verifiers", "supervisor.pl") };
  const hasPerl = existsSync(PERL);
  if (mode === "perl") {
    if (hasPerl) return { supervisors: [perl], supervisorNote: "as asked" };
    throw new ConfigError({ at: "the sandbox", need: `${PERL}`, fix: "apt-get install perl-base" });
  }
  const { path, note } = buildSupervisor();
  if (mode === "supervisor" && path === null) {
    const fix = "apt-get install gcc libc6-dev";
    throw new ConfigError({ at: "the sandbox", need: "a C compiler for its supervisor", got: note, fix });
  }
  const compiled: Supervisor[] = path === null ? [] : [{ kind: "c", path }];
  if (mode === "supervisor") return { supervisors: compiled, supervisorNote: note };
  return { supervisors: [...compiled, ...(hasPerl ? [perl] : []), null], supervisorNote: note };
}
