/** Runs what a language's files say of it: probe, self-test, examples. Facts only; check-languages.ts judges them. */
import { InfrastructureError, type Status, Task, type Verdict } from "../core/index.js";
import { sameOutput } from "./comparators.js";
import {
  EXAMPLE_KINDS,
  type ExampleKind,
  type LanguageExample,
  type LanguageExamples,
  readExamples,
} from "./language-examples.js";
import type { Language } from "./languages.js";
import { cleanMessage } from "./message.js";
import type { LocalPool } from "./pool.js";

export interface ExampleTrial {
  readonly kind: ExampleKind;
  readonly wanted: { readonly status: Status; readonly feedback: string | null };
  readonly got: Pick<Verdict, "status" | "feedback" | "reason">;
}

export interface LanguageTrial {
  readonly isMissing: boolean;
  /** First line that the probe printed; null where there is no probe or it said nothing. */
  readonly version: string | null;
  /** What is wrong with the tool or the self-test; null: nothing. */
  readonly reason: string | null;
  readonly recorded: LanguageExamples | null;
  readonly examples: readonly ExampleTrial[];
}

/** A shell says 127 for a command that it does not find. */
const NOT_FOUND = 127;

/** @param isQuick - leaves the examples out: whether it works here, not whether it works as recorded */
export async function tryLanguage(
  pool: LocalPool,
  language: Language,
  isQuick = false,
): Promise<LanguageTrial> {
  const base = { recorded: readExamples(language), version: null, examples: [] };
  try {
    const { version, isMissing, reason } = await probe(pool, language);
    if (isMissing) return { ...base, isMissing, reason };
    const tested = await selfTest(pool, language);
    if (tested.reason !== null) return { ...base, version, ...tested };
    const examples = isQuick ? [] : await tryExamples(pool, language, base.recorded);
    return { ...base, version, ...tested, examples };
  } catch (error) {
    if (!(error instanceof InfrastructureError)) throw error;
    return { ...base, isMissing: isAboutMissing(error.message), reason: error.message };
  }
}

const isAboutMissing = (message: string): boolean => /No such file|not found|has no image/.test(message);

async function probe(
  pool: LocalPool,
  language: Language,
): Promise<Pick<LanguageTrial, "version" | "isMissing" | "reason">> {
  if (language.probe === undefined) return { version: null, isMissing: false, reason: null };
  const { tests } = await pool.run({ language, program: "", inputs: [""], execute: language.probe });
  const said = tests[0]?.stdout.trim() || tests[0]?.stderr.trim() || "";
  const isMissing = tests[0]?.exit_code === NOT_FOUND;
  return { version: said.split("\n")[0] || null, isMissing, reason: said };
}

async function selfTest(
  pool: LocalPool,
  language: Language,
): Promise<Pick<LanguageTrial, "isMissing" | "reason">> {
  // Without a self-test there is nothing to compare with; an empty program still shows whether the tool is there.
  const { program, input, output } = language.selftest ?? { program: "", input: "", output: null };
  const { compile, tests } = await pool.run({ language, program, inputs: [input] });
  const outcome = compile ?? tests[0]!;
  const isMissing = outcome.exit_code === NOT_FOUND;
  if (output === null && !isMissing) return { isMissing, reason: null };
  if (
    outcome.status === "accepted" &&
    output !== null &&
    sameOutput("trailing", output, bytes(outcome.stdout))
  )
    return { isMissing, reason: null };
  const said = cleanMessage(outcome.stderr, language) || `printed ${JSON.stringify(outcome.stdout)}`;
  return { isMissing, reason: `self-test: ${outcome.status}: ${said}` };
}

const bytes = (text: string): Buffer => Buffer.from(text, "utf8");

function tryExamples(
  pool: LocalPool,
  language: Language,
  examples: LanguageExamples | null,
): Promise<ExampleTrial[]> {
  const present = EXAMPLE_KINDS.flatMap((kind) => {
    const example = examples?.[kind];
    return example?.program === undefined ? [] : [{ kind, example, program: example.program }];
  });
  return Promise.all(
    present.map(async ({ kind, example, program }) => ({
      kind,
      wanted: { status: example.status ?? kind, feedback: example.feedback?.trimEnd() ?? null },
      got: await pool.verify({
        id: `${language.name}/${kind}`,
        task: taskOf(kind, example),
        language: language.name,
        program,
      }),
    })),
  );
}

const taskOf = (kind: ExampleKind, { input, output, limits }: LanguageExample): Task =>
  Task.parse({ id: kind, prompt: "", tests: [{ input, output }], comparator: "tokens", limits });
