/** Which languages this machine can run now, and in which version; asked by their probes when someone wants to know. */
import { InfrastructureError } from "../../core/index.js";
import { installHint, type Language } from "../languages.js";
import type { LocalPool } from "../pool.js";

export interface Runtime {
  readonly language: Language;
  /** unknown: its file has no probe, or the probe itself failed just now. */
  readonly status: "ok" | "missing" | "unknown";
  /** First line that the probe printed. */
  readonly version: string | null;
}

/** A shell says 127 for a command that it does not find. */
const NOT_FOUND = 127;
/** A tool that was missing may have been installed since. */
const ASK_AGAIN_MS = 30_000;

export class Runtimes {
  readonly #pool: LocalPool;
  readonly #known = new Map<string, { readonly at: number; readonly runtime: Promise<Runtime> }>();

  constructor(pool: LocalPool) {
    this.#pool = pool;
  }

  of(language: Language): Promise<Runtime> {
    const known = this.#known.get(language.name);
    if (known !== undefined && performance.now() - known.at < ASK_AGAIN_MS) return known.runtime;
    const runtime = this.#ask(language);
    this.#known.set(language.name, { at: performance.now(), runtime });
    void runtime.then(({ status }) => {
      if (status === "ok") this.#known.set(language.name, { at: Number.POSITIVE_INFINITY, runtime });
    });
    return runtime;
  }

  all(): Promise<Runtime[]> {
    return Promise.all(this.#pool.languages.all.map((language) => this.of(language)));
  }

  async #ask(language: Language): Promise<Runtime> {
    if (language.probe === undefined) return { language, status: "unknown", version: null };
    try {
      const run = { language, program: "", inputs: [""], execute: language.probe };
      const [test] = (await this.#pool.run(run)).tests;
      const said = test?.stdout.trim() || test?.stderr.trim() || "";
      if (test?.status === "accepted")
        return { language, status: "ok", version: said.split("\n")[0] ?? null };
      return { language, status: test?.exit_code === NOT_FOUND ? "missing" : "unknown", version: null };
    } catch (error) {
      if (!(error instanceof InfrastructureError)) throw error;
      const isMissing = /No such file|not found/.test(error.message);
      return { language, status: isMissing ? "missing" : "unknown", version: null };
    }
  }
}

/** A row of GET /v1/languages. */
export const languageRow = ({ language, status, version }: Runtime) => ({
  name: language.name,
  aliases: language.aliases,
  fences: language.fences,
  status,
  version,
  install: installHint(language),
});

/** "Python 3.11.2" -> "3.11.2": clients of Piston expect three numbers. */
export function threeNumbers(version: string | null): string {
  const found = /\d+(?:\.\d+)+/.exec(version ?? "")?.[0] ?? /\d+/.exec(version ?? "")?.[0] ?? "0";
  const [major = "0", minor = "0", patch = "0"] = found.split(".");
  return [major, minor, patch].map(Number).join(".");
}
