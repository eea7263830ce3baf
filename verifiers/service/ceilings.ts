/** What the operator allows, per language: a request may ask for less, never for more. */
import type { Limits } from "../../core/index.js";
import type { Language } from "../languages.js";
import { compileLimits, testLimits } from "../limits.js";

export type FullLimits = Readonly<Record<keyof Limits, number>>;

/** Of the operator, from the command line; what is not given is the language's own, or the default. */
export interface OperatorLimits {
  readonly run: Limits;
  /** The compiler's wall time, seconds. */
  readonly compileTimeS?: number;
}

/** A limit that a request asked for beyond the operator's. */
export interface Excess {
  readonly key: keyof Limits;
  readonly asked: number;
  readonly most: number;
}

const KEYS = ["time_s", "cpu_s", "memory_mb", "output_kb"] as const;

/** The flag that widens each, for messages. */
export const FLAGS: Readonly<Record<keyof Limits, string>> = {
  time_s: "--max-time-s",
  cpu_s: "--max-time-s",
  memory_mb: "--max-memory-mb",
  output_kb: "--max-output-kb",
};

function ownLimits(language: Language): FullLimits {
  const own = testLimits(language, {}, {});
  return {
    time_s: own.timeMs / 1000,
    cpu_s: own.cpuMs / 1000,
    memory_mb: own.memoryMb,
    output_kb: own.outputBytes / 1024,
  };
}

/** The most that a request in this language may ask for. */
export function ceilings(language: Language, operator: OperatorLimits): FullLimits {
  const run = definedOnly(operator.run);
  // The operator's wall time bounds the CPU time too, as everywhere where only one of them is said.
  const cpu = run.cpu_s ?? run.time_s;
  return { ...ownLimits(language), ...run, ...(cpu === undefined ? {} : { cpu_s: cpu }) };
}

/**
 * The limits a program runs under: what was asked for, cut down to the ceilings; where nothing was asked for, the
 * language's own, cut down likewise.
 */
export function tightened(
  language: Language,
  operator: OperatorLimits,
  asked: Limits,
): { readonly limits: FullLimits; readonly excess: readonly Excess[] } {
  const most = ceilings(language, operator);
  const own = ownLimits(language);
  const wanted: FullLimits = {
    ...own,
    ...(asked.time_s === undefined ? {} : { cpu_s: asked.time_s }),
    ...definedOnly(asked),
  };
  const limits = {
    time_s: Math.min(wanted.time_s, most.time_s),
    cpu_s: Math.min(wanted.cpu_s, most.cpu_s),
    memory_mb: Math.min(wanted.memory_mb, most.memory_mb),
    output_kb: Math.min(wanted.output_kb, most.output_kb),
  };
  const excess = KEYS.flatMap((key): Excess[] => {
    const value = asked[key];
    return value !== undefined && value > most[key] ? [{ key, asked: value, most: most[key] }] : [];
  });
  return { limits, excess };
}

const definedOnly = (limits: Limits): Partial<FullLimits> =>
  Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));

/** Of the compiler: seconds of wall time, and its memory. */
export function compileCeilings(
  language: Language,
  operator: OperatorLimits,
): { readonly time_s: number; readonly cpu_s: number; readonly memory_mb: number } {
  const own = compileLimits(language);
  const timeS = Math.min(own.timeMs / 1000, operator.compileTimeS ?? Number.POSITIVE_INFINITY);
  return { time_s: timeS, cpu_s: own.cpuMs / 1000, memory_mb: own.memoryMb };
}
