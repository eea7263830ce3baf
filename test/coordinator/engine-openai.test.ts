/** Training against a sampling server: `retort serve --policy` as a process of its own. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { retort } from "../cli/retort.js";
import { type ServiceProcess, startService } from "../verifiers/service-process.js";
import { startEndpoint } from "./endpoint-server.js";
import { prepareRun } from "./small-policy.js";
import { lastStep, metrics, rollouts, startTraining, stepRows, train } from "./training-process.js";

const root = mkdtempSync(join(tmpdir(), "engine-openai-"));
let file = "";
let server: ServiceProcess;

const serve = (port = 0): Promise<ServiceProcess> =>
  startService(["--device", "cpu", "--threads", "1", "--slots", "8", "--name", "small"], {}, [
    "--policy",
    join(root, "policy"),
    "--port",
    String(port),
  ]);

beforeAll(async () => {
  file = await prepareRun(root);
  server = await serve();
}, 60_000);
afterAll(async () => {
  await server.stop();
  rmSync(root, { recursive: true });
});

const engine = (url: string, push: string, more: Record<string, unknown> = {}): string =>
  `rollout.engine=${JSON.stringify({
    type: "openai",
    base_url: `${url}/v1`,
    model: "small",
    weights: { push },
    ...more,
  })}`;

const runAt = (name: string, ...sets: readonly string[]): string[] => [
  file,
  ...[
    "run.steps=3",
    "checkpoint.every=1",
    "evaluation.samples=1",
    `run.dir=${join(root, name)}`,
    ...sets,
  ].flatMap((set) => ["--set", set]),
];

/** What was written and what it earned, without the clock. */
const story = (name: string): unknown[] =>
  rollouts(join(root, name)).map(({ step, task_id, sample, policy_version, completion, reward }) => [
    step,
    task_id,
    sample,
    policy_version,
    completion,
    reward,
  ]);

const gaps = (name: string): number[] =>
  stepRows(join(root, name)).map(({ max_log_prob_gap }) => Number(max_log_prob_gap));

describe.each([
  { push: "sglang_disk", sets: [] as string[] },
  { push: "vllm_lora", sets: ["policy.lora.rank=4", "optimizer.lr=0.01"] },
])("weights by $push", ({ push, sets }) => {
  const name = `run-${push}`;
  /** Its own: whole weights replace the policy for good. */
  let own: ServiceProcess;
  beforeAll(async () => {
    own = await serve();
    await train(runAt(`local-${push}`, ...sets));
    await train(runAt(name, engine(own.url, push), ...sets));
  }, 120_000);
  afterAll(async () => void (await own.stop()));

  test("the rollouts are those of the local engine with the same seed, and so is what is learned from them", () => {
    expect(story(name).length).toBe(3 * 8);
    expect(story(name)).toEqual(story(`local-${push}`));
    const rates = (run: string): unknown[] =>
      metrics(join(root, run))
        .filter(({ kind }) => kind === "evaluation")
        .map(({ sets: rows }) => rows);
    expect(rates(name)).toEqual(rates(`local-${push}`));
  });

  test("the server samples from the weights of the update before: its log-probabilities are the trainer's", () => {
    for (const gap of gaps(name)) expect(gap).toBeLessThan(1e-3);
    expect(gaps(name).length).toBe(3);
  });

  test("nothing is left behind: neither folders of weights nor, but for one, adapters on the server", async () => {
    expect(readdirSync(join(root, name, "served"))).toEqual([]);
    const models = (await (await fetch(`${own.url}/v1/models`)).json()) as { data: { id: string }[] };
    expect(models.data.length).toBeLessThanOrEqual(2);
  });
});

test("a server that is killed and comes back is given the weights again, and nothing is lost", async () => {
  const mortal = await serve();
  const port = Number(new URL(mortal.url).port);
  const name = "interrupted";
  const run = startTraining(runAt(name, engine(mortal.url, "sglang_disk")));
  await run.until("a step", () => lastStep(join(root, name)) >= 1);
  await mortal.stop("SIGKILL");
  await run.until("a note", () => /does not answer/.test(run.stderr()));
  const again = await serve(port);
  const outcome = await run.outcome;
  await again.stop();
  expect([outcome.code, outcome.stderr.includes("answers again")]).toEqual([0, true]);
  expect(story(name)).toEqual(story("run-sglang_disk"));
  for (const gap of gaps(name)) expect(gap).toBeLessThan(1e-3);
}, 120_000);

test("a server that stays away ends the run as our own failure; it is resumed where it stopped", async () => {
  const mortal = await serve();
  const port = Number(new URL(mortal.url).port);
  const name = "resumed";
  const sets = runAt(name, engine(mortal.url, "sglang_disk", { patience_s: 0.5 }));
  const run = startTraining(sets);
  await run.until("a step", () => lastStep(join(root, name)) >= 1);
  await mortal.stop("SIGKILL");
  const { code, stderr } = await run.outcome;
  expect([code, /the sampling server .* away for/.test(stderr)]).toEqual([1, true]);
  const again = await serve(port);
  await train([...sets, "--resume"]);
  await again.stop();
  expect(story(name)).toEqual(story("run-sglang_disk"));
}, 120_000);

test("a server that gives no token ids is refused before anything is trained, with the reason", async () => {
  const strange = await startEndpoint(() => ({ text: "print(1)" }));
  const url = strange.url.replace(/\/v1$/, "");
  const { code, stderr } = await retort(["train", ...runAt("strange", engine(url, "sglang_disk"))]);
  await strange.close();
  expect(code).toBe(2);
  expect(stderr).toContain("rollout.engine: need a server that gives token ids with their log-probabilities");
});

test.each([
  {
    what: "no server",
    set: () => engine("http://127.0.0.1:9", "none"),
    says: "a server that completes prompts",
  },
  {
    what: "a model that it does not serve",
    set: () => engine(server.url, "none", { model: "large" }),
    says: 'rollout.engine.model: need one that .* serves: small.*, got "large"',
  },
])("$what is a mistake that is told", async ({ set, says }) => {
  const { code, stderr } = await retort(["train", ...runAt("mistake", set())]);
  expect([code, stderr]).toEqual([2, expect.stringMatching(says)]);
});
