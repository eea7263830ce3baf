/** A file that names the one process which may write something. The lock of a process that died is taken over. */
import { randomBytes } from "node:crypto";
import { linkSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { z } from "zod";
import { ConfigError } from "../core/index.js";

const Holder = z.strictObject({ pid: z.int(), started: z.string(), host: z.string() });
export type LockHolder = z.infer<typeof Holder>;

/** When a process started, in the kernel's ticks since boot: tells a living process from a later one with its number. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command name, in parentheses, may hold spaces; the start time is the 20th field after it.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}

function isAlive(holder: LockHolder): boolean {
  const started = startOf(holder.pid);
  if (started !== null) return started === holder.started;
  try {
    process.kill(holder.pid, 0); // systems without /proc
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** null: there is no lock, or its text is broken, which only a machine that went down within the write leaves. */
function readHolder(path: string): LockHolder | null {
  try {
    return Holder.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    return null;
  }
}

/** What a refusal says. */
export interface LockedThing {
  readonly at: string;
  readonly need: string;
  readonly fix: string;
}

function refuse(path: string, { holder, heldMs }: HeldLock, thing: LockedThing): never {
  const since = new Date(Date.now() - heldMs).toISOString().slice(0, 16).replace("T", " ");
  throw new ConfigError({
    at: thing.at,
    need: `${thing.need}; process ${holder.pid} on ${holder.host} does, since ${since} UTC`,
    fix: holder.host === hostname() ? thing.fix : `If that process is over, remove ${path}.`,
  });
}

/** Puts a stale lock out of the way, unless another process has just replaced it. */
function removeStale(path: string, stale: string): void {
  const aside = `${path}.${randomBytes(4).toString("hex")}`;
  try {
    renameSync(path, aside);
  } catch {
    return; // another process was faster; the next attempt to link tells
  }
  if (readFileSync(aside, "utf8") !== stale) {
    try {
      linkSync(aside, path);
    } catch {
      // a third process holds it now
    }
  }
  rmSync(aside, { force: true });
}

export interface HeldLock {
  readonly holder: LockHolder;
  /** For how long; 0 where it has just been let go. */
  readonly heldMs: number;
}

/** A lock that was taken, and how to let it go (calling it twice does no harm); or who holds it. */
export type LockAttempt = { readonly release: () => void } | HeldLock;

/**
 * Takes a lock, unless a living process holds it, this one included.
 * @param isAbandoned - asked of a lock of another host, whose processes cannot be seen; default: they live
 */
export function tryLock(path: string, isAbandoned: (held: HeldLock) => boolean = () => false): LockAttempt {
  const own: LockHolder = { pid: process.pid, started: startOf(process.pid) ?? "", host: hostname() };
  const temporary = `${path}.${randomBytes(4).toString("hex")}`;
  writeFileSync(temporary, JSON.stringify(own));
  try {
    for (let attempt = 0; ; attempt++) {
      try {
        linkSync(temporary, path); // fails where the lock exists, and is never seen half written
        break;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST" || attempt === 3) throw error;
      }
      const holder = readHolder(path);
      if (holder !== null) {
        const mtimeMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
        const held = { holder, heldMs: Math.max(0, Date.now() - mtimeMs) };
        if (holder.host === own.host ? isAlive(holder) : !isAbandoned(held)) return held;
      }
      removeStale(path, holder === null ? readOrEmpty(path) : JSON.stringify(holder));
    }
  } finally {
    rmSync(temporary, { force: true });
  }
  const text = JSON.stringify(own);
  const release = (): void => {
    if (readOrEmpty(path) === text) rmSync(path, { force: true });
  };
  return { release };
}

/**
 * Takes a lock; its folder exists.
 * @returns a function that lets it go; calling it twice does no harm
 * @throws ConfigError when a living process holds it, this one included
 */
export function lockFile(path: string, thing: LockedThing): () => void {
  const attempt = tryLock(path);
  return "release" in attempt ? attempt.release : refuse(path, attempt, thing);
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
