import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { loadRunConfig } from "../../coordinator/config.js";
import { changesOf } from "../../coordinator/plan/advice.js";
import { checkPlan } from "../../coordinator/plan/check.js";
import { type Plan, planRun } from "../../coordinator/plan/plan.js";
import { ConfigError } from "../../core/index.js";
import type { Provider } from "../../tensor/index.js";
import { retort } from "./retort.js";

const folder = mkdtempSync(join(tmpdir(), "plan-"));
afterAll(() => rmSync(folder, { recursive: true }));

const [LAYERS, VOCABULARY] = [2, 21_000];
/** A policy of which only config.json is there: 16.4M parameters, the fewest that are planned before a run. */
const policy = join(folder, "policy");
mkdirSync(policy);
const shape = {
  model_type: "qwen3",
  hidden_size: 512,
  intermediate_size: 1408,
  num_hidden_layers: LAYERS,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  head_dim: 64,
  vocab_size: VOCABULARY,
  tie_word_embeddings: true,
  torch_dtype: "bfloat16",
};
writeFileSync(join(policy, "config.json"), JSON.stringify(shape));
writeFileSync(join(folder, "tasks.jsonl"), '{"id":"a","prompt":"x","tests":[{"input":"","output":"1"}]}\n');
const run = join(folder, "run.yaml");
writeFileSync(
  run,
  JSON.stringify({
    policy: { path: policy, threads: 1 },
    tasks: { train: join(folder, "tasks.jsonl") },
    rollout: { prompts_per_step: 2, samples_per_prompt: 4, max_new_tokens: 64, max_prompt_tokens: 64 },
    objective: { type: "grpo" },
    optimizer: { type: "adamw" },
  }),
);

const plan = (provider: Provider, options: { memoryBytes?: number; set?: string[] } = {}): Promise<Plan> =>
  planRun(loadRunConfig(run, options.set), { provider, ...options });

const bytes = ({ items }: Plan, what: string): number =>
  items.filter((item) => item.what === what).reduce((sum, item) => sum + item.bytes, 0);

// Per layer: q, k, v, o of 512 x 512, 128, 128 and 512; three of 512 x 1408; norms 2 x 512 + 2 x 64. Embedding, last norm.
const LAYER = 512 * (512 + 128 + 128 + 512) + 3 * 512 * 1408 + 2 * 512 + 2 * 64;
const PARAMETERS = LAYERS * LAYER + VOCABULARY * 512 + 512;

test("a policy of which only config.json is there is planned: parameters, stored bytes, state", async () => {
  const planned = await plan("cpu");
  expect(planned.policy).toMatchObject({
    parameters: PARAMETERS,
    learned: PARAMETERS,
    storedBytes: 2 * PARAMETERS,
    dtype: "bfloat16",
    hasWeights: false,
  });
  for (const what of ["weights", "optimizer: mean of the gradients", "optimizer: mean of their squares"])
    expect(bytes(planned, what)).toBe(4 * PARAMETERS);
  // Layers x keys and values x 8 slots x 2 heads x (64 + 64) positions x 64.
  expect(bytes(planned, "sampler: KV cache")).toBe(4 * LAYERS * 2 * 8 * 2 * 128 * 64);
  expect(planned.peaks.device).toBeNull();
});

test("an adapter needs a state of its own size alone, and an update of fewer bytes", async () => {
  const [whole, adapter] = [await plan("cpu"), await plan("cpu", { set: ["policy.lora.rank=4"] })];
  // A: rank x in, B: out x rank, for each of the seven matrices.
  const learned = LAYERS * 4 * (512 + 512 + 2 * (512 + 128) + 512 + 512 + 3 * (512 + 1408));
  expect(adapter.policy).toMatchObject({ parameters: PARAMETERS, learned });
  expect(bytes(adapter, "adapter")).toBe(4 * learned);
  expect(adapter.peaks.host.update).toBeLessThan(whole.peaks.host.update - 2 * 4 * PARAMETERS);
});

test("for a GPU that is not here, what computes stands in device memory and is held against --memory", async () => {
  const planned = await plan("webgpu", { memoryBytes: 2 ** 28 });
  expect(planned.peaks.device!.update).toBeGreaterThan(4 * 4 * PARAMETERS);
  expect(planned.peaks.host.update).toBeLessThan(4 * 4 * PARAMETERS);
  expect([planned.memoryBytes, planned.fits]).toEqual([2 ** 28, false]);
});

test("offloaded, a GPU is spared the moments, which stand in host memory", async () => {
  const layers = "optimizer.recompute=layers";
  const [kept, offloaded] = [
    await plan("webgpu", { set: [layers] }),
    await plan("webgpu", { set: [layers, "optimizer.offload=true"] }),
  ];
  const moments = 2 * 4 * PARAMETERS;
  expect(offloaded.peaks.host.sample - kept.peaks.host.sample).toBe(moments);
  // The moments, and what a step makes of the largest part's beside them: two copies more of the embedding.
  const spared = kept.peaks.device!.update - offloaded.peaks.device!.update;
  expect(spared / (moments + 2 * 4 * VOCABULARY * 512)).toBeCloseTo(1, 0);
  expect(spared).toBeGreaterThan(moments);
  const advised = changesOf(loadRunConfig(run), "webgpu").map((change) => change.set);
  expect(advised).toContain("optimizer.offload=true");
  const both = ["optimizer.recompute=none", "optimizer.offload=true"];
  await expect(plan("webgpu", { set: both })).rejects.toThrow("optimizer.recompute: need layers or auto");
});

test("float16 halves what a GPU holds of the policy's matrices, and is advised where a run does not fit", async () => {
  const lora = ["policy.lora.rank=4"];
  const half = ["policy.lora.rank=4", "policy.precision=float16"];
  const [wide, narrow] = [await plan("webgpu", { set: lora }), await plan("webgpu", { set: half })];
  const norms = LAYERS * (2 * 512 + 2 * 64) + 512;
  expect(bytes(wide, "weights")).toBe(4 * PARAMETERS);
  expect(bytes(narrow, "weights")).toBe(2 * (PARAMETERS - norms) + 4 * norms);
  const saved = bytes(wide, "weights") - bytes(narrow, "weights");
  expect(wide.peakBytes - narrow.peakBytes).toBeGreaterThan(0.4 * saved); // products in half need casts: more nodes
  const advised = (set: string[], provider: Provider): string[] =>
    changesOf(loadRunConfig(run, set), provider).map((change) => change.set);
  const change = "policy.precision=float16";
  expect(advised(lora, "webgpu")).toContain(change);
  for (const others of [advised(lora, "cpu"), advised(half, "webgpu"), advised([], "webgpu")])
    expect(others).not.toContain(change);
});

test("where a server samples, no sampler is planned here, but the weights that are handed over", async () => {
  const speed = { flops: 1e12, bandwidth: 1e10, isMeasured: false };
  const pushed = (push: string) => {
    const engine = { type: "openai", base_url: "http://127.0.0.1:1/v1", model: "m", weights: { push } };
    const config = loadRunConfig(run, [`rollout.engine=${JSON.stringify(engine)}`]);
    return planRun(config, { provider: "cpu", speed });
  };
  const [there, fixed] = [await pushed("sglang_disk"), await pushed("none")];
  expect(there.items.filter(({ what }) => what.includes("sampler:"))).toEqual([]);
  expect(there.peaks.host.sample - fixed.peaks.host.sample).toBe(4 * PARAMETERS);
  expect([there.time!.sample, there.time!.update > 0]).toEqual([null, true]);
});

test("a device that samples alone is planned in its own place, and what is handed over on its way there", async () => {
  const gpuAlone = await plan("webgpu", { memoryBytes: 2 ** 40 });
  const split = await plan("webgpu", { memoryBytes: 2 ** 40, set: ["rollout.device=cpu"] });
  const samplers = (planned: Plan) => planned.items.filter(({ what }) => what.startsWith("sampler: "));
  expect(new Set(samplers(gpuAlone).map(({ place }) => place))).toEqual(new Set(["device"]));
  expect(new Set(samplers(split).map(({ place }) => place))).toEqual(new Set(["host"]));
  expect(bytes(split, "sampler: its own copy of the weights")).toBe(4 * PARAMETERS);
  expect(bytes(split, "handing weights over: a copy in the main thread")).toBe(4 * PARAMETERS);
  expect(split.peaks.device!.sample).toBeLessThan(gpuAlone.peaks.device!.sample);
  expect([gpuAlone.place, split.place, split.fits]).toEqual(["device", "device", true]);
  const card = await plan("cuda"); // webgpu samples on it, with a second copy there
  expect([card.sampler, card.items.find(({ what }) => what.includes("own copy"))?.place]).toEqual([
    "webgpu",
    "device",
  ]);
  const tight = await plan("cpu", { memoryBytes: 2 ** 20, set: ["rollout.device=webgpu"] });
  expect([tight.place, tight.memoryBytes, tight.fits]).toEqual(["host", 2 ** 20, false]);
  const isAdvised = (sampler: string): boolean =>
    changesOf(loadRunConfig(run, ["policy.lora.rank=4", `rollout.device=${sampler}`]), "webgpu").some(
      ({ set }) => set === "policy.precision=float16",
    );
  expect([isAdvised("auto"), isAdvised("cpu")]).toEqual([true, false]); // the cpu computes in float32 alone
});

test("the command prints a table, or JSON, and one line that says whether it fits", async () => {
  const args = ["plan", run, "--device", "webgpu", "--memory", "0.25"];
  const [table, json] = await Promise.all([retort(args), retort([...args, "--json"])]);
  expect([table.code, table.stderr, json.code, json.stderr]).toEqual([0, "", 0, ""]);
  expect(table.stdout).toMatch(
    /^plan: at most about [\d.]+ [MG]B of 256 MB device memory \(update\): it does not fit$/m,
  );
  expect((JSON.parse(json.stdout) as Plan).fits).toBe(false);
});

test("fewer tokens at once make a smaller update", async () => {
  const [more, fewer] = [
    await plan("cpu", { set: ["rollout.prompts_per_step=8"] }),
    await plan("cpu", { set: ["rollout.prompts_per_step=8", "optimizer.microbatch_tokens=1024"] }),
  ];
  expect(fewer.peaks.host.update).toBeLessThan(0.75 * more.peaks.host.update);
});

test("a folder without config.json is refused with exit code 2", async () => {
  const { code, stderr } = await retort(["plan", run, "--set", `policy.path=${folder}/nowhere`]);
  expect(code).toBe(2);
  expect(stderr).toContain("config.json");
});

test("a run that cannot fit is refused with what each change saves, the largest first", async () => {
  const refusal = await checkPlan(loadRunConfig(run, []), 2 ** 29).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(ConfigError);
  const { message } = refusal as ConfigError;
  expect(message).toMatch(/^memory: need about [\d.]+ [MG]B for this run, got "512 MB"\./);
  const saved = [...message.matchAll(/--set (\S+) {2}saves ([\d.]+) ([MG])B/g)].map(
    ([, set, amount, unit]) => ({ set, bytes: Number(amount) * (unit === "G" ? 1024 : 1) }),
  );
  expect(saved[0]!.set).toBe("policy.lora.rank=16");
  expect(saved.map(({ bytes }) => bytes)).toEqual(saved.map(({ bytes }) => bytes).sort((a, b) => b - a));
  expect(message).toContain("--no-plan");
});

test("where no key helps, that is what it says", async () => {
  const least = ["prompts_per_step=1", "samples_per_prompt=2", "slots=1", "max_new_tokens=32"];
  const sets = [
    ...least.map((set) => `rollout.${set}`),
    ...["policy.lora.rank=2", "optimizer.kept_mb=0", "optimizer.microbatch_tokens=256"],
  ];
  await expect(checkPlan(loadRunConfig(run, sets), 2 ** 27)).rejects.toThrow(
    /got "128 MB"\. No key of the run helps much: it takes more memory, or a smaller policy\.\n/,
  );
});

test("retort train refuses it with exit code 2 and leaves nothing", async () => {
  // 200 million words: 410 GB of embedding, of which nothing is ever asked for.
  const large = join(folder, "large");
  mkdirSync(large);
  writeFileSync(
    join(large, "config.json"),
    JSON.stringify({ ...shape, vocab_size: 2e8, num_hidden_layers: 1 }),
  );
  const dir = join(folder, "refused");
  const sets = [`policy.path=${large}`, "policy.lora.rank=4", "policy.device=cpu", `run.dir=${dir}`];
  const { code, stderr } = await retort(["train", run, ...sets.flatMap((set) => ["--set", set])]);
  expect([code, existsSync(dir)]).toEqual([2, false]);
  expect(stderr).toMatch(/^retort: memory: need about [\d.]+ [GT]B for this run/);
});
