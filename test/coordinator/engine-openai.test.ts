/** Training against a sampling server: `retort serve --policy` as a process of its own. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadRunConfig } from "../../coordinator/config.js";
import { evaluateRun } from "../../coordinator/evaluate-run.js";
import { retort } from "../cli/retort.js";
import { type ServiceProcess, startService } from "../verifiers/service-process.js";
import { startEndpoint } from "./endpoint-server.js";
import { prepareRun } from "./small-policy.js";
import { lastStep, metrics, rollouts, startTraining, stepRows, train } from "./training-process.js";

const root = mkdtempSync(join(tmpdir(), "engine-openai-"));
let file = "";
let server: ServiceProcess;

/** Its policy is the run's until whole weights replace it. */
const serve = (): Promise<ServiceProcess> =>
  startService(["--device", "cpu", "--threads", "1", "--slots", "8", "--name", "small"], {}, [
    "--policy",
    join(root, "policy"),
    "--port",
    "0",
  ]);

/** An address that stays where it is while the server behind it is killed and begun anew: no other test can take its port. */
async function startAddress(): Promise<{
  url: string;
  /** null: nobody is there. */
  leadTo(server: ServiceProcess | null): void;
  close(): void;
}> {
  let port: number | null = null;
  const sockets = new Set<Socket>();
  const address = createServer((client) => {
    if (port === null) return void client.destroy();
    const behind = connect(port, "127.0.0.1");
    for (const [socket, other] of [
      [client, behind],
      [behind, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => {}); // nobody is there, or no longer: told to the other side by its end
      socket.once("close", () => sockets.delete(socket) && other.destroy());
      socket.pipe(other);
    }
  });
  await new Promise<void>((resolve) => address.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(address.address() as AddressInfo).port}`,
    leadTo: (server) => {
      port = server === null ? null : Number(new URL(server.url).port);
    },
    close: () => {
      address.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

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

interface Asked {
  readonly sets: readonly string[];
  readonly checkpoint?: string;
  readonly signal?: AbortSignal;
  readonly samples?: number;
}

/** What `retort eval RUN.yaml` finds for a run, and the completions that it draws. */
async function evaluated(name: string, out: string, { sets, ...more }: Asked) {
  const config = loadRunConfig(file, [`run.dir=${join(root, name)}`, ...sets], "evaluation");
  const stream = new PassThrough() as unknown as NodeJS.WriteStream;
  const path = join(root, `${out}.jsonl`);
  const asked = { config, set: "heldout", samples: 4, out: path, reports: [], stream, ...more } as const;
  const { summary } = await evaluateRun(asked);
  const completions = readFileSync(join(root, `${out}.completions.jsonl`), "utf8")
    .trimEnd()
    .split("\n");
  return { rate: summary["pass@1"], completions: completions.sort() };
}

const served = async (): Promise<string[]> => {
  const answer = await fetch(`${server.url}/v1/models`);
  return ((await answer.json()) as { data: { id: string }[] }).data.map(({ id }) => id);
};

test("adapters: rollouts and rates are those of the local engine with the same seed", async () => {
  const sets = ["policy.lora.rank=4", "optimizer.lr=0.01"];
  await train(runAt("local-lora", ...sets));
  await train(runAt("lora", engine(server.url, "vllm_lora"), ...sets));
  expectSame("lora", "local-lora");
  const models = await served();
  expect(models).toEqual(["small", expect.stringMatching(/^small-[0-9a-f]{8}-step-000003$/)]);
  const at = [...sets, engine(server.url, "vllm_lora")];
  const tuned = await evaluated("lora", "eval-lora", { sets: at, checkpoint: "latest" });
  expect(tuned).toEqual(await evaluated("lora", "eval-lora-here", { sets, checkpoint: "latest" }));
  // Without a checkpoint it is the base that the server holds.
  const start = await evaluated("lora", "eval-base", { sets: at });
  expect(start).toEqual(await evaluated("lora", "eval-base-here", { sets }));
  expect(start.completions).not.toEqual(tuned.completions);
  expect(await served()).toEqual(models); // the adapter that was evaluated is gone again
  // The run's own stays, until it is in the way of whole weights.
  const body = JSON.stringify({ lora_name: models[1] });
  const headers = { "content-type": "application/json" };
  await fetch(`${server.url}/v1/unload_lora_adapter`, { method: "POST", headers, body });
  // A server that takes no adapters is given whole weights, with the adapter merged in.
  const whole = [...sets, engine(server.url, "sglang_disk")];
  const merged = await evaluated("lora", "eval-merged", { sets: whole, checkpoint: "latest" });
  expect(merged).toEqual(tuned);
});

describe("whole weights", () => {
  beforeAll(() => train(runAt("local")));

  test("an evaluation hands them over, a checkpoint's and the first ones, whatever the server has", async () => {
    const sets = [engine(server.url, "sglang_disk")];
    for (const checkpoint of ["latest", undefined]) {
      const which = checkpoint === undefined ? {} : { checkpoint };
      const name = `eval-${checkpoint}`;
      const here = await evaluated("local", `${name}-here`, { sets: [], ...which });
      expect(await evaluated("local", name, { sets, ...which })).toEqual(here);
    }
    expect(readdirSync(join(root, "local", "evaluations", "served"))).toEqual([]);
  });

  test("what the server cannot be given is not evaluated on it, and a server that is not there is told at once", async () => {
    const refused = (push: string, checkpoint: string, ...sets: string[]): Promise<unknown> =>
      evaluated("local", "refused", { sets: [engine(server.url, push), ...sets], checkpoint });
    const refusal = (need: string): unknown =>
      expect.objectContaining({ name: "ConfigError", message: expect.stringContaining(need) });
    await expect(refused("none", "latest")).rejects.toEqual(
      refusal("--checkpoint: need a server that takes weights: with rollout.engine.weights.push: none"),
    );
    const whole = join(root, "local", "checkpoints", "step-000003");
    await expect(refused("vllm_lora", whole, "policy.lora.rank=4")).rejects.toEqual(
      refusal("need an adapter: rollout.engine.weights.push: vllm_lora hands over nothing else"),
    );
    const away = { sets: [engine("http://127.0.0.1:9", "none")] };
    await expect(evaluated("local", "away", away)).rejects.toEqual(
      refusal("a server that completes prompts"),
    );
  });

  test("a stopped evaluation breaks its requests off and keeps what it has; called again it goes on", async () => {
    const asked = { sets: [engine(server.url, "sglang_disk", { concurrency: 1 })], samples: 20 };
    const drawn = join(root, "stopped.completions.jsonl");
    const lines = (): string[] =>
      existsSync(drawn) ? readFileSync(drawn, "utf8").split("\n").slice(0, -1) : [];
    const stop = new AbortController();
    const watch = setInterval(() => lines().length > 5 && stop.abort(), 2);
    const stopped = evaluated("local", "stopped", { ...asked, signal: stop.signal });
    await expect(stopped).rejects.toThrow(/Stopped: \d+ of 120 programs/);
    clearInterval(watch);
    const kept = lines();
    expect(kept.length).toBeLessThan(120);
    const { completions } = await evaluated("local", "stopped", asked);
    expect(completions).toEqual(expect.arrayContaining(kept));
    expect(new Set(completions).size).toBe(120);
  });

  test("a server that is killed within the run is given them again, and every number is the local engine's", async () => {
    const mortal = await serve();
    const address = await startAddress();
    address.leadTo(mortal);
    const run = startTraining(runAt("killed", engine(address.url, "sglang_disk")));
    await run.until("a step", () => lastStep(join(root, "killed")) >= 1);
    address.leadTo(null);
    await mortal.stop("SIGKILL");
    await run.until("a note", () => /does not answer/.test(run.stderr()));
    const again = await serve();
    address.leadTo(again);
    const { code, stderr } = await run.outcome;
    address.close();
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
