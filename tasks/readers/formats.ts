/** The formats, and which one a row is of. */
import { AGNOSTICS_MBPP, AGNOSTICS_TRAIN } from "./agnostics.js";
import type { Format } from "./format.js";
import { HUMAN_EVAL } from "./human-eval.js";
import { LIVECODEBENCH } from "./livecodebench.js";
import { MULTIPL_E } from "./multipl-e.js";
import { RETORT } from "./retort.js";
import { SDPO } from "./sdpo.js";

/** In the order in which a row is tried: those whose keys are found nowhere else first. */
export const FORMATS: readonly Format[] = [
  LIVECODEBENCH,
  AGNOSTICS_TRAIN,
  AGNOSTICS_MBPP,
  HUMAN_EVAL,
  MULTIPL_E,
  SDPO,
  RETORT,
];
export const FORMAT_NAMES: readonly string[] = FORMATS.map(({ name }) => name);

export const formatNamed = (name: string): Format | undefined =>
  FORMATS.find((format) => format.name === name);

/** The format of a row by its keys; undefined where it is of none. */
export function formatOf(row: unknown): Format | undefined {
  if (typeof row !== "object" || row === null || Array.isArray(row)) return undefined;
  return FORMATS.find((format) => format.isLike(row as Record<string, unknown>));
}
