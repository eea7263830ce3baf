/** Whether each language works on this machine: its tool's version, its self-test, its examples. */
import { NO_VERSION } from "./language-examples.js";
import { installHint, type Language } from "./languages.js";
import type { LocalPool } from "./pool.js";
import { type ExampleTrial, type LanguageTrial, tryLanguage } from "./try-language.js";

export interface LanguageCheck {
  readonly name: string;
  /**
   * missing: its tool is not installed. failed: it is, and the self-test or an example ended otherwise than its file says.
   * untested: not installed here, and nobody has run its examples anywhere.
   */
  readonly status: "ok" | "failed" | "missing" | "untested";
  readonly version: string | null;
  /** How to install it, from its file; null where the file does not say. */
  readonly install: string | null;
  readonly reason?: string;
  /** What differs without being wrong: a message that another version of the tool words otherwise. */
  readonly notes?: readonly string[];
}

export interface CheckOptions {
  /** Names or aliases; default: all. */
  readonly names?: readonly string[];
  /** Probe and self-test only. */
  readonly isQuick?: boolean;
  readonly onTried?: (language: Language, trial: LanguageTrial, check: LanguageCheck) => void;
}

/** @throws ConfigError for a name that no language has, and for a mistake in a file of examples */
export function checkLanguages(pool: LocalPool, options: CheckOptions = {}): Promise<LanguageCheck[]> {
  const { names, onTried, isQuick } = options;
  const chosen = names?.length ? names.map((name) => pool.languages.get(name)) : pool.languages.all;
  return Promise.all(
    [...new Set(chosen)].map(async (language) => {
      const trial = await tryLanguage(pool, language, isQuick);
      const check = judgeTrial(language, trial);
      onTried?.(language, trial, check);
      return check;
    }),
  );
}

/** From what a language's programs did to its status. */
export function judgeTrial(language: Language, trial: LanguageTrial): LanguageCheck {
  const { version, recorded, reason, isMissing } = trial;
  const row = (status: LanguageCheck["status"]): LanguageCheck => ({
    name: language.name,
    status,
    version,
    install: installHint(language),
  });
  if (isMissing) {
    const status = recorded !== null && recorded.version === undefined ? "untested" : "missing";
    return { ...row(status), ...(reason ? { reason } : {}) };
  }
  const isSameVersion = recorded?.version !== undefined && recorded.version === (version ?? NO_VERSION);
  const wrong = reason === null ? trial.examples.filter((each) => isWrong(each, isSameVersion)) : [];
  if (reason !== null || wrong.length > 0)
    return { ...row("failed"), reason: reason ?? wrong.map(told).join("\n") };
  const notes = [
    ...(language.selftest === undefined ? ["no self-test"] : []),
    ...(recorded === null ? ["no examples"] : []),
    ...trial.examples.filter((each) => differs(each)).map((each) => noteOn(each, recorded?.version)),
  ];
  return { ...row("ok"), ...(notes.length > 0 ? { notes } : {}) };
}

const differs = ({ wanted, got }: ExampleTrial): boolean => wanted.feedback !== got.feedback;

/** Another version may word a message otherwise; under the same one a difference is our own mistake. */
const isWrong = (trial: ExampleTrial, isSameVersion: boolean): boolean =>
  trial.wanted.status !== trial.got.status || (isSameVersion && differs(trial));

function told({ kind, wanted, got }: ExampleTrial): string {
  if (wanted.status !== got.status)
    return `${kind}: ${got.status} instead of ${wanted.status}: ${got.reason ?? got.feedback}`;
  return `${kind}: feedback ${JSON.stringify(got.feedback)} instead of ${JSON.stringify(wanted.feedback)}`;
}

const noteOn = ({ kind, wanted, got }: ExampleTrial, recorded: string | undefined): string =>
  wanted.feedback === null
    ? `${kind}: no feedback is recorded; here it is ${JSON.stringify(got.feedback)}`
    : `${kind}: feedback ${JSON.stringify(got.feedback)}, recorded with ${recorded ?? "an unknown version"}: ${JSON.stringify(wanted.feedback)}`;
