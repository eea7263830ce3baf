/** Which limits a run gets: the task's over the run's over the language's over the defaults. */
import type { Limits } from "../core/index.js";
import type { Language, LanguageLimits } from "./languages.js";
import type { RunLimits } from "./protocol.js";

const TEST_DEFAULTS = {
  time_s: 10,
  memory_mb: 512,
  output_kb: 1024,
  processes: 64,
  file_mb: 64,
  disk_mb: 64,
};
const COMPILE_DEFAULTS = {
  time_s: 20,
  cpu_s: 10,
  memory_mb: 1024,
  output_kb: 64,
  processes: 64,
  file_mb: 64,
  disk_mb: 128,
};

function merge(
  layers: readonly (Limits | LanguageLimits)[],
  defaults: typeof TEST_DEFAULTS & { cpu_s?: number },
): RunLimits {
  const merged: LanguageLimits = { ...defaults };
  for (const layer of layers) {
    // A layer that sets the wall time alone sets the CPU time with it.
    if (layer.time_s !== undefined && layer.cpu_s === undefined) delete merged.cpu_s;
    for (const [key, value] of Object.entries(layer))
      if (value !== undefined) Object.assign(merged, { [key]: value });
  }
  const timeS = merged.time_s ?? defaults.time_s;
  return {
    timeMs: timeS * 1000,
    cpuMs: (merged.cpu_s ?? timeS) * 1000,
    memoryMb: merged.memory_mb ?? defaults.memory_mb,
    outputBytes: (merged.output_kb ?? defaults.output_kb) * 1024,
    processes: merged.processes ?? defaults.processes,
    fileMb: merged.file_mb ?? defaults.file_mb,
    diskMb: merged.disk_mb ?? defaults.disk_mb,
    reservesAddressSpace: merged.reserves_address_space ?? false,
  };
}

export function testLimits(language: Language, run: Limits, task: Limits): RunLimits {
  return merge([language.limits, run, task], TEST_DEFAULTS);
}

/** Compiling has its own limits: neither the run nor a task changes them, and a request can only tighten them. */
export function compileLimits(language: Language, asked: Limits = {}): RunLimits {
  const own = merge([language.compile_limits], COMPILE_DEFAULTS);
  const timeMs = Math.min(own.timeMs, (asked.time_s ?? Number.POSITIVE_INFINITY) * 1000);
  const cpuMs = Math.min(own.cpuMs, (asked.cpu_s ?? Number.POSITIVE_INFINITY) * 1000);
  const memoryMb = Math.min(own.memoryMb, asked.memory_mb ?? Number.POSITIVE_INFINITY);
  return { ...own, timeMs, cpuMs, memoryMb };
}

/** Files of a test stand in the sandbox's memory beside the checker. */
const CHECKER_FILES_MB = 256;
const CHECKER_LEAST = { timeMs: 10_000, cpuMs: 10_000, memoryMb: 1024, outputBytes: 1024 * 1024 };

/** Of a checker program: its language's, but no less than is generous; a task's limits are for the programs it judges. */
export function checkerLimits(language: Language): RunLimits {
  const limits = testLimits(language, {}, {});
  return {
    ...limits,
    timeMs: Math.max(limits.timeMs, CHECKER_LEAST.timeMs),
    cpuMs: Math.max(limits.cpuMs, CHECKER_LEAST.cpuMs),
    memoryMb: Math.max(limits.memoryMb, CHECKER_LEAST.memoryMb) + CHECKER_FILES_MB,
    outputBytes: Math.max(limits.outputBytes, CHECKER_LEAST.outputBytes),
  };
}
