/** Which languages this machine can run now, and in which version; asked by their probes when someone wants to know. */
import { InfrastructureError } from "../../core/index.js";
import { installHint, type Language } from "../languages.js";
import type { LocalPool } from "../pool.js";

export interface Runtime {
  readonly language: Language;
  /** unknown: its file has no probe. */
  readonly status: "ok" | "missing" | "unknown";
  /** First line that the probe printed. */
  readonly version: string | null;
}

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
      if (status !== "missing") this.#known.set(language.name, { at: Number.POSITIVE_INFINITY, runtime });
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
      const isThere = test?.status === "accepted";
      return { language, status: isThere ? "ok" : "missing", version: isThere ? said.split("\n")[0]! : null };
    } catch (error) {
      if (!(error instanceof InfrastructureError)) throw error;
      return { language, status: "missing", version: null };
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
