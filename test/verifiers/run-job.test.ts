import { expect, test } from "vitest";
import type { SentJob } from "../../verifiers/job.js";
import { runJob } from "../../verifiers/run-job.js";

test("an error that nobody foresaw is told as our failure, and does not end the broker with all that runs beside it", async () => {
  const job = { id: 7, tests: [{ input: "", expected: "" }] } as unknown as SentJob;
  const result = await runJob(job, {
    take: () => Promise.reject(Object.assign(new Error("spawn E2BIG"), { code: "E2BIG" })),
    test: () => Promise.reject(new Error("no test")),
    stream: null,
    checker: null,
    onSandbox: () => {},
  });
  expect(result).toMatchObject({ id: 7, infrastructure: "the judge failed: Error: spawn E2BIG", tests: [] });
});
