/** Writes the feedback that examples earned into their file, comments and order kept; a person reads it before it counts. */
import { readFileSync } from "node:fs";
import { isMap, parseDocument, Scalar } from "yaml";
import { replaceFile } from "../checkpoints/index.js";
import { ConfigError } from "../core/index.js";
import { examplesFile, NO_VERSION } from "./language-examples.js";
import type { Language } from "./languages.js";
import type { LanguageTrial } from "./try-language.js";

/**
 * @returns the file that was written
 * @throws ConfigError where an example ended otherwise than its file says: recording that would hide it
 */
export async function recordExamples(language: Language, trial: LanguageTrial): Promise<string> {
  const file = examplesFile(language);
  const problem =
    trial.recorded === null
      ? "there are no examples"
      : trial.isMissing
        ? "the tool is not installed"
        : (trial.reason ?? wrongStatus(trial));
  if (problem !== null)
    throw new ConfigError({ at: file, need: "examples that end as they should", fix: problem });
  const document = parseDocument(readFileSync(file, "utf8"));
  const version = trial.version ?? NO_VERSION;
  if (!document.has("version") && isMap(document.contents))
    document.contents.items.unshift(document.createPair("version", version));
  document.set("version", version);
  for (const { kind, got } of trial.examples) {
    const text = new Scalar(got.feedback);
    text.type = Scalar.BLOCK_LITERAL;
    const example = document.get(kind);
    if (isMap(example)) example.flow = false; // { } would fold the lines of the text
    document.setIn([kind, "feedback"], text);
  }
  await replaceFile(file, document.toString({ lineWidth: 0 }));
  return file;
}

function wrongStatus({ examples }: LanguageTrial): string | null {
  const wrong = examples.find(({ wanted, got }) => wanted.status !== got.status);
  return wrong ? `${wrong.kind}: ${wrong.got.status}: ${wrong.got.reason ?? wrong.got.feedback}` : null;
}
