/** A run whose programs are judged by workers elsewhere learns what a run on one machine learns. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { endWorkers, keysOf, openPlace, type Place, startWorker } from "../verifiers/redis-place.js";
import { prepareRun } from "./small-policy.js";
import { killHard, lastStep, numbersOf, startTraining, train } from "./training-process.js";

const root = mkdtempSync(join(tmpdir(), "run-redis-"));
let place: Place;
beforeAll(async () => {
  place = await openPlace();
  process.env.REDIS_URL = place.url;
});
afterAll(async () => {
  delete process.env.REDIS_URL;
  await endWorkers();
  await place.end();
  rmSync(root, { recursive: true });
});

test("killed and resumed, by workers of which one is killed too: the same bits as on one machine, and no key stays for ever", async () => {
  const file = await prepareRun(root);
  const [here, there] = [join(root, "here"), join(root, "there")];
  await train([file, "--set", `run.dir=${here}`]);
  const [first, second] = await Promise.all(["first", "second"].map((name) => startWorker(place.url, name)));
  const args = [file, "--set", `run.dir=${there}`, "--set", "verifier.pool=redis"];
  const begun = startTraining(args);
  await begun.until("its third step", () => lastStep(there) >= 3);
  await killHard(begun);
  expect(lastStep(there)).toBeLessThan(6);
  await first!.end("SIGKILL");
  await train([...args, "--resume"]);
  expect(numbersOf(there)).toEqual(numbersOf(here));
  expect(second!.count("judged")).toBeGreaterThan(0);
  await second!.end("SIGTERM");
  const keys = await keysOf(place);
  const ends = await Promise.all(keys.map((key) => place.redis.ttl(key)));
  expect(ends.filter((seconds) => seconds === -1)).toEqual([]);
});
