/** Running programs without judging them. */
import type { Limits, TestOutcome } from "../core/index.js";
import { InfrastructureError } from "../core/index.js";
import type { Streams } from "./broker-line.js";
import type { LocalPool } from "./pool.js";

export interface ProgramToRun {
  readonly language: string;
  readonly program: string;
  readonly limits?: Limits;
}

/**
 * What a program prints for each input; status "accepted" means that it ended with status 0.
 * @returns [inputs]; where the compiler refused, its outcome (compile_error) for each
 * @throws InfrastructureError when our own machinery failed, retries included
 */
export async function runProgram(
  pool: LocalPool,
  run: ProgramToRun & { readonly inputs: readonly string[] },
): Promise<readonly TestOutcome[]> {
  const result = await pool.run({ ...run, language: pool.languages.get(run.language) });
  const { compile } = result;
  return compile === null ? result.tests : run.inputs.map(() => compile);
}

/**
 * One program with its stdin and its output passed through as they come.
 * @param input - the program's stdin, read as it is produced
 * @returns how it ended; `stdout` and `stderr` went to `onOutput`, except those of a compiler that refused
 */
export async function runInteractive(
  pool: LocalPool,
  run: ProgramToRun,
  input: AsyncIterable<Uint8Array | string>,
  onOutput: Streams["onOutput"],
): Promise<TestOutcome> {
  let isOver = false;
  const pass = async (send: (bytes: Buffer | null) => void) => {
    try {
      for await (const bytes of input) {
        if (isOver) return;
        send(Buffer.from(bytes as Uint8Array));
      }
    } finally {
      if (!isOver) send(null);
    }
  };
  const result = await pool.runStreamed(
    { ...run, language: pool.languages.get(run.language), inputs: [""] },
    { onReady: (send) => void pass(send).catch(() => {}), onOutput },
  );
  isOver = true;
  const outcome = result.compile ?? result.tests[0];
  if (outcome === undefined) throw new InfrastructureError("the run has no outcome");
  return outcome;
}
