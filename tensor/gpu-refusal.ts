import { ConfigError } from "../core/index.js";

const TOO_LARGE = /Buffer size \((\d+)\) exceeds the max buffer size limit \((\d+)\)/;
/** What a buffer that could not be made turns into; its memory is what was missing. */
const NOT_MADE = /Invalid Buffer .*is invalid due to a previous error|OUT_OF_DEVICE_MEMORY/;

const inGigabytes = (bytes: string): string => `${(Number(bytes) / 2 ** 30).toFixed(2)} GB`;

/**
 * What webgpu throws, in the user's words where it is a GPU that is too small. The ones here are errors of validation: a
 * call that met them has given no numbers.
 */
export function gpuRefusal(error: unknown): unknown {
  const text = String(error);
  const [, size, limit] = TOO_LARGE.exec(text) ?? [];
  if (size !== undefined && limit !== undefined)
    return tooSmallBuffers(inGigabytes(size), inGigabytes(limit));
  if (!NOT_MADE.test(text)) return error;
  return new ConfigError({
    at: "policy.device",
    got: "webgpu",
    need: `more memory on the GPU: a buffer could not be made there (${text.split("\n")[0]})`,
    fix: "`retort plan` shows what takes it, and what another setting would save.",
    cause: error,
  });
}

/** @param need, limit - with their units; no limit: unknown */
export function tooSmallBuffers(need: string, limit?: string): ConfigError {
  const most = limit === undefined ? "this one cannot make one" : `this one's hold at most ${limit}`;
  return new ConfigError({
    at: "policy.device",
    got: "webgpu",
    need: `a GPU with buffers of ${need}: ${most}`,
    fix: "policy.precision: float16 (with policy.lora) halves those of a policy's matrices; `retort plan` tells the largest. Else choose another device.",
  });
}
