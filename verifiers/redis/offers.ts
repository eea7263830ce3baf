/** Which workers judge a language exactly as this client's file says it, and what to tell where none does. */
import type { Language } from "../languages.js";
import type { Announcement } from "./messages.js";
import { DEFAULT_PREFIX, languageDigest } from "./names.js";

export interface Offer {
  readonly workers: readonly Announcement[];
  /** Programs at a time, of all of them together. */
  readonly capacity: number;
  /** Of the language's tool, each once. More than one: the same program may be judged differently. */
  readonly versions: readonly string[];
  /** What they enforce, each once. */
  readonly isolations: readonly Readonly<Record<string, unknown>>[];
  /** Names of workers that have a language of this name, defined otherwise. */
  readonly differing: readonly string[];
}

export function offerOf(roster: readonly Announcement[], language: Language): Offer {
  const digest = languageDigest(language);
  const workers = roster.filter(({ languages }) => languages[language.name]?.digest === digest);
  const differing = roster.filter(
    ({ languages }) => languages[language.name] !== undefined && languages[language.name]!.digest !== digest,
  );
  const versions = new Set(workers.map(({ languages }) => languages[language.name]!.version ?? "unknown"));
  const isolations = new Map(workers.map(({ isolation }) => [JSON.stringify(isolation), isolation]));
  return {
    workers,
    isolations: [...isolations].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, isolation]) => isolation),
    capacity: workers.reduce((sum, { capacity }) => sum + capacity, 0),
    versions: [...versions].sort(),
    differing: differing.map(({ name }) => name),
  };
}

export interface Place {
  /** Without a password. */
  readonly shownUrl: string;
  readonly prefix: string;
}

/** What to do where nobody offers a language. */
export function whoIsMissing(language: Language, offer: Offer, place: Place): string {
  const prefix = place.prefix === DEFAULT_PREFIX ? "" : ` --redis-prefix ${place.prefix}`;
  const command = `retort worker --redis ${place.shownUrl}${prefix}`;
  if (offer.differing.length === 0) {
    return `no worker offers ${language.name}; on a machine that has its tools, start: ${command}`;
  }
  return (
    `no worker offers this ${language.name}: ${offer.differing.join(", ")} ${offer.differing.length === 1 ? "has" : "have"} ` +
    `another ${language.name}.yaml. Give each the file used here: ${command} --languages FOLDER`
  );
}
