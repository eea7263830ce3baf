/** Whether programs can be run: by what was run just now, or else by running one. */
import { parseLanguage } from "../languages.js";
import type { Programs } from "./programs.js";

/** Ends at once, in a sandbox like any other. */
const PROBE = parseLanguage("prompt: ''\nfilename: probe\nexecute: 'true'\n", "health.yaml");
const FRESH_MS = 5000;
const PATIENCE_MS = 5000;

export class Health {
  readonly #programs: Programs;
  #asked: { readonly at: number; readonly answer: Promise<string | null> } | null = null;

  constructor(programs: Programs) {
    this.#programs = programs;
  }

  /**
   * null when a sandbox has done its work within the last seconds, else what is wrong. A broker that died is replaced by
   * asking. Many askers share one probe.
   */
  problem(): Promise<string | null> {
    const nowMs = performance.now();
    if (nowMs - this.#programs.lastAnswerMs < FRESH_MS) return Promise.resolve(null);
    if (this.#asked === null || nowMs - this.#asked.at > FRESH_MS)
      this.#asked = { at: nowMs, answer: this.#probe() };
    return this.#asked.answer;
  }

  async #probe(): Promise<string | null> {
    const { pool, queue } = this.#programs;
    const probe = pool.run({ language: PROBE, program: "", inputs: [""] }).then(
      ({ tests }) =>
        tests[0]?.status === "accepted" ? null : `a program that ends at once: ${tests[0]?.status}`,
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<string | null>((resolve) => {
      // Behind long programs the probe waits for its turn as they do: that is work, not a failure.
      const answer = () =>
        resolve(queue.running > 0 ? null : `no sandbox answered within ${PATIENCE_MS / 1000} s`);
      timer = setTimeout(answer, PATIENCE_MS);
    });
    return Promise.race([probe, tooLong]).finally(() => clearTimeout(timer));
  }
}
