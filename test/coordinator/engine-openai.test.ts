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

/** Its policy is the run's until whole weights replace it. */
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
});
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

/** Held-out rates, before and after. */
const rates = (name: string): unknown[] =>
  metrics(join(root, name))
    .filter(({ kind }) => kind === "evaluation")
    .map(({ sets }) => sets);

function expectSame(name: string, local: string): void {
  expect(story(name).length).toBe(3 * 8);
  expect(story(name)).toEqual(story(local));
  expect(rates(name)).toEqual(rates(local));
  // Of the weights of the update before: any others would be off by far more.
  expect(gaps(name).length).toBe(3);
  for (const gap of gaps(name)) expect(gap).toBeLessThan(1e-3);
  expect(readdirSync(join(root, name, "served"))).toEqual([]);
}

test("adapters: rollouts and rates are those of the local engine with the same seed", async () => {
  const sets = ["policy.lora.rank=4", "optimizer.lr=0.01"];
  await train(runAt("local-lora", ...sets));
  await train(runAt("lora", engine(server.url, "vllm_lora"), ...sets));
  expectSame("lora", "local-lora");
  const { data } = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: { id: string }[] };
  expect(data.map(({ id }) => id)).toEqual([
    "small",
    expect.stringMatching(/^small-[0-9a-f]{8}-step-000003$/),
  ]);
});

describe("whole weights", () => {
  beforeAll(() => train(runAt("local")));

  test("a server that is killed within the run is given them again, and every number is the local engine's", async () => {
    const mortal = await serve();
    const port = Number(new URL(mortal.url).port);
    const run = startTraining(runAt("killed", engine(mortal.url, "sglang_disk")));
    await run.until("a step", () => lastStep(join(root, "killed")) >= 1);
    await mortal.stop("SIGKILL");
    await run.until("a note", () => /does not answer/.test(run.stderr()));
    const again = await serve(port);
    const { code, stderr } = await run.outcome;
    await again.stop();
    expect([code, stderr.includes("the sampling server answers again")]).toEqual([0, true]);
    expectSame("killed", "local");
  });

  test("a server that stays away ends the run as our own failure; it is resumed, elsewhere, where it stopped", async () => {
    const mortal = await serve();
    const run = startTraining(runAt("resumed", engine(mortal.url, "sglang_disk", { patience_s: 0.5 })));
    await run.until("a step", () => lastStep(join(root, "resumed")) >= 1);
    await mortal.stop("SIGKILL");
    const { code, stderr } = await run.outcome;
    expect([code, /the sampling server .* away for/.test(stderr)]).toEqual([1, true]);
    const again = await serve();
    await train([...runAt("resumed", engine(again.url, "sglang_disk")), "--resume"]);
    await again.stop();
    expectSame("resumed", "local");
  });
});

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
