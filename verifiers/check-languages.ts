/** Whether each language works on this machine: its tool's version, and its self-test in the sandbox. */
import { InfrastructureError } from "../core/index.js";
import { sameOutput } from "./comparators.js";
import { cleanMessage } from "./feedback.js";
import type { Language, LanguageSet } from "./languages.js";
import type { LocalPool } from "./pool.js";

export interface LanguageCheck {
  readonly name: string;
  /** missing: its tool is not installed. failed: it is, and the self-test did not pass. */
  readonly status: "ok" | "failed" | "missing";
  readonly version: string | null;
  /** How to install it, from its file; null where the file does not say. */
  readonly install: string | null;
  readonly reason?: string;
}

export function checkLanguages(
  pool: LocalPool,
  languages: LanguageSet = pool.languages,
): Promise<LanguageCheck[]> {
  return Promise.all(languages.all.map((language) => checkLanguage(pool, language)));
}

async function checkLanguage(pool: LocalPool, language: Language): Promise<LanguageCheck> {
  const { install } = language;
  const base = {
    name: language.name,
    install: typeof install === "string" ? install : (install?.["container-instructions"] ?? null),
  };
  let version: string | null = null;
  try {
    if (language.probe !== undefined) {
      const [probe] = (await pool.run({ language, program: "", inputs: [""], execute: language.probe }))
        .tests;
      // A shell says 127 for a command that it does not find.
      if (probe?.exit_code === 127)
        return { ...base, status: "missing", version, reason: probe.stderr.trim() };
      version = (probe?.stdout.trim() || probe?.stderr.trim() || "").split("\n")[0] ?? null;
    }
    return { ...base, version, ...(await selfTest(pool, language)) };
  } catch (error) {
    if (!(error instanceof InfrastructureError)) throw error;
    const isMissing = /No such file|not found/.test(error.message);
    return { ...base, status: isMissing ? "missing" : "failed", version, reason: error.message };
  }
}

async function selfTest(
  pool: LocalPool,
  language: Language,
): Promise<Pick<LanguageCheck, "status" | "reason">> {
  if (language.selftest === undefined) {
    // Nothing to compare with; an empty program still shows whether the tool is there.
    const { compile, tests } = await pool.run({ language, program: "", inputs: [""] });
    const isMissing = (compile ?? tests[0])?.exit_code === 127;
    return { status: isMissing ? "missing" : "ok", reason: "no self-test" };
  }
  const { program, input, output } = language.selftest;
  const { compile, tests } = await pool.run({ language, program, inputs: [input] });
  const outcome = compile ?? tests[0];
  if (outcome?.status === "accepted" && sameOutput("trailing", output, Buffer.from(outcome.stdout, "utf8")))
    return { status: "ok" };
  const said =
    cleanMessage(outcome?.stderr ?? "", language) || `printed ${JSON.stringify(outcome?.stdout ?? "")}`;
  return { status: "failed", reason: `${outcome?.status ?? "no outcome"}: ${said}` };
}
