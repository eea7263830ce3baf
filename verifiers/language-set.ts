/** The languages of a run: which files there are, and under which names their languages go. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { ConfigError, nearest, packageRoot } from "../core/index.js";
import { type Language, parseLanguage, readLanguage } from "./languages.js";

export interface LanguageSet {
  readonly names: readonly string[];
  readonly all: readonly Language[];
  /** @throws ConfigError for a name that no file and no alias has */
  get(nameOrAlias: string): Language;
  find(nameOrAlias: string): Language | undefined;
}

/** The shipped languages, read once. */
let shipped: readonly Language[] | undefined;

/** They were parsed when this was built, which takes a tenth of a second; a file that has another text since is parsed anew. */
function shippedLanguages(): Language[] {
  const built = join(packageRoot, "dist", "languages.json");
  const parsed = existsSync(built) ? (JSON.parse(readFileSync(built, "utf8")) as ParsedLanguage[]) : [];
  return yamlFiles(join(packageRoot, "configs", "languages")).map((file) => {
    const text = readFileSync(file, "utf8");
    const same = parsed.find(({ name, text: then }) => name === basename(file) && then === text);
    return parseLanguage(text, file, same?.content);
  });
}

/** A row of what scripts/bundle.mjs writes. */
interface ParsedLanguage {
  readonly name: string;
  readonly text: string;
  readonly content: unknown;
}

/**
 * @param extra - folders or single YAML files; a name found later replaces one found earlier
 * @throws ConfigError for a mistake in a file, two files of one name in a folder, or an alias that two claim
 */
export function loadLanguages(extra: readonly string[] = []): LanguageSet {
  const byName = new Map<string, Language>();
  shipped ??= shippedLanguages();
  for (const found of [shipped, ...extra.map((place) => yamlFiles(place).map(readLanguage))]) {
    for (const language of found) {
      const key = language.name.toLowerCase();
      const earlier = byName.get(key);
      if (earlier !== undefined) refuseTwins(earlier, language);
      byName.delete(key); // what replaces an earlier file stands where it was found: later claims win
      byName.set(key, earlier === undefined ? language : completed(language, earlier));
    }
  }
  return languageSet([...byName.values()]);
}

/**
 * A file that replaces an earlier one keeps that one's answers to what it does not say itself. Agnostics' files have no
 * such keys, and its r.yaml would otherwise start an R that does not find its own packages.
 */
function completed(language: Language, earlier: Language): Language {
  const messages = language.messages ?? earlier.messages;
  return {
    ...language,
    aliases: language.aliases.length > 0 ? language.aliases : earlier.aliases,
    fences: language.fences.length > 0 ? language.fences : earlier.fences,
    mounts: language.mounts.length > 0 ? language.mounts : earlier.mounts,
    limits: { ...earlier.limits, ...language.limits },
    compile_limits: { ...earlier.compile_limits, ...language.compile_limits },
    ...(messages === undefined ? {} : { messages }),
  };
}

function refuseTwins(one: Language, other: Language): void {
  if (one.source === other.source || dirname(one.source) !== dirname(other.source)) return;
  throw new ConfigError({
    at: other.source,
    need: "one file for a language",
    fix: `${one.source} has the same name; remove one of them.`,
  });
}

function yamlFiles(place: string): string[] {
  if (!existsSync(place))
    throw new ConfigError({
      at: place,
      need: "a folder of language files, or one file",
      fix: "There is none of that name.",
    });
  if (!statSync(place).isDirectory()) return [place];
  const names = readdirSync(place).filter((name) => /\.ya?ml$/.test(name));
  return names.sort().map((name) => join(place, name));
}

/**
 * A name beats an alias of an earlier folder, and a later folder's alias beats an earlier one's. Nothing else is decided
 * silently: a program judged in the wrong language looks like a bad policy.
 * @param all - in the order in which their files were found
 * @throws ConfigError where two files of one folder claim an alias, or an alias is an earlier language's name
 */
export function languageSet(all: readonly Language[]): LanguageSet {
  const names = new Map(all.map((language, place) => [language.name.toLowerCase(), { language, place }]));
  const byAnyName = new Map<string, Language>();
  for (const [place, language] of all.entries()) {
    for (const alias of language.aliases.map((each) => each.toLowerCase())) {
      const named = names.get(alias);
      if (named && named.language !== language && (named.place < place || isBeside(named.language, language)))
        throw taken(language, alias, `it is the name of ${named.language.source}`);
      const claimed = byAnyName.get(alias);
      if (claimed && claimed !== language && isBeside(claimed, language))
        throw taken(language, alias, `${claimed.source} has it too`);
      byAnyName.set(alias, language);
    }
  }
  for (const [name, { language }] of names) byAnyName.set(name, language);
  const find = (name: string) => byAnyName.get(name.trim().toLowerCase());
  return {
    all,
    names: all.map((language) => language.name),
    find,
    get: (name) => {
      const found = find(name);
      if (found) return found;
      const guess = nearest(name, [...byAnyName.keys()]);
      throw new ConfigError({
        at: "language",
        got: name,
        need: `one of ${all.map((language) => language.name).join(", ")}`,
        fix: guess ? `Did you mean ${guess}?` : "A YAML file in a folder given with --languages adds one.",
      });
    },
  };
}

const isBeside = (one: Language, other: Language): boolean => dirname(one.source) === dirname(other.source);

const taken = (language: Language, alias: string, why: string): ConfigError =>
  new ConfigError({
    at: `${language.source}: aliases`,
    got: alias,
    need: "an alias that no other language has",
    fix: `${why[0]!.toUpperCase()}${why.slice(1)}. A file of the same name replaces a language.`,
  });
