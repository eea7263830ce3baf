/** What our keys in Redis are called and how long they live without anyone who renews them. */
import { createHash } from "node:crypto";
import type { Language } from "../languages.js";

export const DEFAULT_PREFIX = "retort";
/** Of anything that a killed process left behind. Seconds. */
export const KEPT_S = 3600;
/** Of programs set aside. Seconds. */
export const POISONED_KEPT_S = 7 * 24 * 3600;

export interface Names {
  readonly prefix: string;
  /** BullMQ's prefix: its keys are PREFIX:queue:QUEUE:... */
  readonly queues: string;
  readonly workers: string;
  worker(id: string): string;
  readonly clients: string;
  client(id: string): string;
  /** List of what workers tell a client. */
  replies(client: string): string;
  readonly poisoned: string;
}

export const namesUnder = (prefix: string = DEFAULT_PREFIX): Names => ({
  prefix,
  queues: `${prefix}:queue`,
  workers: `${prefix}:workers`,
  worker: (id) => `${prefix}:worker:${id}`,
  clients: `${prefix}:clients`,
  client: (id) => `${prefix}:client:${id}`,
  replies: (client) => `${prefix}:replies:${client}`,
  poisoned: `${prefix}:poisoned`,
});

/**
 * Digest of all in a language's file that decides a verdict: a worker takes only programs whose language has its own
 * digest. What only people and policies read (prompt, install, ...) may differ, and where a machine keeps the tools (mounts).
 */
export function languageDigest(language: Language): string {
  const {
    source: _s,
    prompt: _p,
    install: _i,
    container: _c,
    selftest: _t,
    mounts: _m,
    ...judging
  } = language;
  return createHash("sha256")
    .update(JSON.stringify(sorted(judging)))
    .digest("hex")
    .slice(0, 16);
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)]));
}

/** One queue for each definition of a language, so that a worker cannot take a program that it would judge otherwise. */
export const queueName = (language: Language): string =>
  `${language.name.replace(/[^\w.+-]/g, "_")}-${languageDigest(language)}`;

/** Client, number of the submission there, and attempt: unique for ever, so that BullMQ never takes one for a known job. */
export interface JobId {
  readonly client: string;
  readonly submission: number;
  readonly attempt: number;
}

export const jobIdText = ({ client, submission, attempt }: JobId): string =>
  `${client}.${submission}.${attempt}`;

/** null for an id that no client of ours makes. */
export function parseJobId(text: string): JobId | null {
  const match = /^([0-9a-f-]{36})\.(\d{1,15})\.(\d{1,9})$/.exec(text);
  if (match === null) return null;
  return { client: match[1]!, submission: Number(match[2]), attempt: Number(match[3]) };
}
