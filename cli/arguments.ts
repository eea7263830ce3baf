/** Readers of command-line values; each refuses with commander's own message, exit code 2. */
import { InvalidArgumentError, Option } from "commander";

function number(text: string, what: string, isRight: (value: number) => boolean): number {
  const value = Number(text);
  if (text.trim() === "" || !isRight(value)) throw new InvalidArgumentError(`Need ${what}.`);
  return value;
}

export const positiveInteger = (text: string): number =>
  number(text, "an integer of 1 or more", (value) => Number.isSafeInteger(value) && value > 0);

export const nonNegativeInteger = (text: string): number =>
  number(text, "an integer of 0 or more", (value) => Number.isSafeInteger(value) && value >= 0);

export const portNumber = (text: string): number =>
  number(text, "a port, 0 to 65535", (value) => Number.isInteger(value) && value >= 0 && value <= 65_535);

export const seedNumber = (text: string): number =>
  number(text, "an integer from 0 to 4294967295", (value) => value >>> 0 === value);

export const positiveNumber = (text: string): number =>
  number(text, "a number above 0", (value) => value > 0 && Number.isFinite(value));

export const nonNegativeNumber = (text: string): number =>
  number(text, "a number of 0 or more", (value) => value >= 0 && Number.isFinite(value));

export const fraction = (text: string): number =>
  number(text, "a number above 0, at most 1", (value) => value > 0 && value <= 1);

/** '{"top_k":20}' -> { top_k: 20 } */
export function jsonObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch {
    // told below
  }
  throw new InvalidArgumentError('Need a JSON object, as {"top_k":20}.');
}

/** "1,5,10" -> [1, 5, 10] */
export const integerList = (text: string): number[] => text.split(",").map(positiveInteger);

/** An option that may be given again and again. */
export const repeatedOption = (flags: string, text: string): Option =>
  new Option(flags, `${text}; may be given again`)
    .argParser((value: string, before: readonly string[]) => [...before, value])
    .default([], "none");

export const languagesOption = (): Option =>
  repeatedOption("--languages <folder>", "language files of your own");

export const setOption = (): Option => repeatedOption("--set <key=value>", "override a key of the run file");

export const workersOption = (): Option =>
  new Option("--workers <count>", "programs judged at once; default: two a core").argParser(positiveInteger);

/** Longest completion unless said otherwise: servers' own defaults go down to 16 tokens. */
export const MAX_NEW_TOKENS = 1024;

/** @param fallback - what the command takes without it */
export const maxNewTokensOption = (fallback = String(MAX_NEW_TOKENS)): Option =>
  new Option("--max-new-tokens <count>", `longest completion; default: ${fallback}`).argParser(
    positiveInteger,
  );

/** OpenAI's word: refused with ours, which is the run file's too. */
export const maxTokensOption = (): Option =>
  new Option("--max-tokens <count>").hideHelp().argParser(() => {
    throw new InvalidArgumentError("Here it is --max-new-tokens, as in a run file.");
  });

export const policyOption = (text = "policy folder, or a checkpoint of a run"): Option =>
  new Option("--policy <folder>", text);

/** Who builds the outer wall of a sandbox. */
export const backendOption = (): Option =>
  choiceOption(
    "--backend <name>",
    "podman, docker: in the image that the language's file names under container",
    ["bubblewrap", "podman", "docker"],
    "bubblewrap",
  );

/** What the host must enforce. */
export const requireOption = (): Option =>
  new Option("--require <file>", "refuse to start unless this host enforces what this YAML file demands");

/** An option with named values. */
export const choiceOption = (
  flags: string,
  text: string,
  choices: readonly string[],
  fallback?: string,
): Option => {
  const option = new Option(flags, text).choices([...choices]);
  return fallback === undefined ? option : option.default(fallback);
};

export const BASE_PRECISIONS = ["float32", "int8"] as const;
export type BasePrecision = (typeof BASE_PRECISIONS)[number];

export const basePrecisionOption = (): Option =>
  choiceOption(
    "--base-precision <type>",
    "of a large policy's matrices in decoding, on cpu",
    BASE_PRECISIONS,
    "float32",
  );
