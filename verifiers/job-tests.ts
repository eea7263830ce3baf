/**
 * Tests on their way to the broker. Those past a job's first mebibyte stay behind and are asked for, one by one, when
 * their turn comes, so that the broker, a small process, never holds more than one of them a worker.
 */
import type { Job, JobTest, SentJob } from "./job.js";

const SENT_CHARS = 1024 * 1024;
/** Longer texts cross as bytes, which V8's heap does not hold. */
const STRING_CHARS = 64 * 1024;

const lengthOf = ({ input, expected }: JobTest): number => input.length + (expected?.length ?? 0);

export function sentJob(job: Job): SentJob {
  let sent = 0;
  const tests = job.tests.map((test) => {
    sent += lengthOf(test);
    return sent <= SENT_CHARS ? test : null;
  });
  return { ...job, tests };
}

export function crossing({ input, expected }: JobTest): JobTest {
  const carried = <T extends JobTest["expected"]>(text: T) =>
    typeof text === "string" && text.length > STRING_CHARS ? Buffer.from(text, "utf8") : text;
  return { input: carried(input), expected: carried(expected) };
}

export function bytesOf(text: string | Uint8Array): Buffer {
  return typeof text === "string"
    ? Buffer.from(text, "utf8")
    : Buffer.from(text.buffer, text.byteOffset, text.byteLength);
}
