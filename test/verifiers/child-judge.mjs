// Judges submissions (JSON on stdin: {options, submissions}) in a process of its own, from the compiled package; tests run
// it under another user, inside a worker thread's parent, and to be killed. Prints one JSON object a line.
import { readFileSync } from "node:fs";

// By a computed name: the type checker must not need a build.
const compiled = new URL("../../dist/verifiers/index.js", import.meta.url).href;
/** @type {typeof import("../../verifiers/index.js")} */
const { createLocalPool, loadLanguages } = await import(compiled);

const { options, submissions } = JSON.parse(readFileSync(0, "utf8"));
/** @param {unknown} value */
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
try {
  const pool = await createLocalPool({ languages: loadLanguages(), ...options });
  say({ isolation: pool.isolation, broker: pool.brokerPid() });
  await Promise.all(
    submissions.map(async (/** @type {import("../../verifiers/index.js").Submission} */ submission) =>
      say({ id: submission.id, verdict: await pool.verify(submission) }),
    ),
  );
  // A verdict comes a moment before its sandbox has gone.
  for (let tries = 0; tries < 1000 && (await pool.survivors()).length > 0; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  say({ survivors: await pool.survivors() });
  await pool.close();
} catch (error) {
  const { name, message } = /** @type {Error} */ (error);
  say({ error: name, message });
  process.exitCode = 2;
}
