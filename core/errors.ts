/**
 * Errors that a person must mend: they say where, what came, what was needed and what to do. Exit code 2.
 * A program that fails is not an error but a Verdict.
 */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly at: string;
  constructor(what: { at: string; got?: unknown; need: string; fix?: string; cause?: unknown }) {
    const got =
      what.got === undefined
        ? ""
        : `, got ${typeof what.got === "number" ? what.got : JSON.stringify(what.got)}`;
    super(`${what.at}: need ${what.need}${got}.${what.fix ? ` ${what.fix}` : ""}`, { cause: what.cause });
    this.at = what.at;
  }
}

/** Our own machinery failed (a worker died, the sandbox did not start). Retried, reported, never scored. */
export class InfrastructureError extends Error {
  override readonly name = "InfrastructureError";
}
