/** `retort serve --policy` takes new weights and adapters while it runs. */
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { replaceFile } from "../../checkpoints/index.js";
import {
  adapterFiles,
  initialAdapter,
  initialWeights,
  parameterShapes,
  parseDecoderConfig,
  readDecoderConfig,
  readPolicy,
  writePolicy,
} from "../../policy/index.js";
import { get, post, type ServiceProcess, startService } from "../verifiers/service-process.js";
import {
  clientOf,
  completer,
  type Extended,
  idsOf,
  prompt,
  scores,
  shipped,
  startPolicy,
  worstGap,
} from "./policy-process.js";

const folder = mkdtempSync(join(tmpdir(), "policy-weights-"));
const config = readDecoderConfig(shipped);
let service: ServiceProcess;
let client: OpenAI;
const complete = completer(() => client);

beforeAll(async () => {
  service = await startPolicy();
  client = clientOf(service);
});
afterAll(async () => {
  await service.stop();
  rmSync(folder, { recursive: true });
});

describe("new weights", () => {
  const other = join(folder, "other");
  const adapter = join(folder, "adapter");
  const merged = join(folder, "merged");
  beforeAll(async () => {
    await writePolicy(other, config, initialWeights(config, 3), shipped);
    const lora = { rank: 2, alpha: 4, targets: ["q_proj", "v_proj"] as ("q_proj" | "v_proj")[] };
    const adapted = { ...config, lora };
    const matrices = Object.entries(initialAdapter(adapted, 1)).map(
      ([name, values]) => [name, values.map((value, index) => value + ((index % 7) - 3) / 3)] as const,
    );
    const files = adapterFiles(adapted, Object.fromEntries(matrices), shipped);
    mkdirSync(adapter);
    for (const [name, content] of Object.entries(files)) await replaceFile(join(adapter, name), content);
    await writePolicy(merged, config, readPolicy(adapter).weights, shipped);
  });

  const gapTo = async (model: string, ids: readonly number[], policy: string): Promise<number> => {
    const [choice] = await complete({ model, prompt: ids, logprobs: 0, seed: 2, max_tokens: 20 });
    const [scored] = await scores(policy, [[...ids, ...choice!.token_ids]]);
    return worstGap(choice!.logprobs!.token_logprobs, scored!.slice(ids.length - 1));
  };

  test("an adapter is a model of its own until it is unloaded, and the policy stays what it was", async () => {
    const before = idsOf(await complete({ seed: 2 }));
    expect(
      (await post(service, "/v1/load_lora_adapter", { lora_name: "tuned", lora_path: adapter })).status,
    ).toBe(200);
    expect(await gapTo("tuned", prompt, merged)).toBeLessThan(1e-4);
    expect(idsOf(await complete({ model: "tuned", seed: 2 }))).not.toEqual(before);
    expect(idsOf(await complete({ seed: 2 }))).toEqual(before);
    const again = await post(service, "/v1/load_lora_adapter", { lora_name: "tuned", lora_path: adapter });
    expect([again.status, again.body.error.message]).toEqual([
      400,
      "The lora adapter 'tuned' has already been loaded. load_inplace: true replaces it.",
    ]);
    const strange = await post(service, "/v1/load_lora_adapter", { lora_name: "no", lora_path: other });
    expect(strange.status).toBe(400);
    expect((await post(service, "/v1/unload_lora_adapter", { lora_name: "tuned" })).status).toBe(200);
    expect((await post(service, "/v1/unload_lora_adapter", { lora_name: "tuned" })).status).toBe(404);
    await expect(complete({ model: "tuned" })).rejects.toMatchObject({ status: 404 });
  });

  test("weights from disk answer from then on; what is under way ends with the weights it began with", async () => {
    const asked = { seed: 2, max_tokens: 200, ignore_eos: true };
    const [first] = idsOf(await complete(asked));
    const stream = await client.completions.create({
      ...{ model: "quickstart", prompt: prompt as never, stream: true, return_token_ids: true },
      ...asked,
    } as never);
    const body = { model_path: other, weight_version: "v2" };
    let update: ReturnType<typeof post> | null = null;
    const ids: number[] = [];
    for await (const { choices } of stream as unknown as AsyncIterable<{ choices: Extended[] }>) {
      update ??= post(service, "/update_weights_from_disk", body); // it is under way
      ids.push(...idsOf(choices).flat());
    }
    expect(ids).toEqual(first);
    expect((await update!).body).toMatchObject({
      success: true,
      message: "Succeeded to update model weights.",
    });
    expect(await gapTo("quickstart", prompt, other)).toBeLessThan(1e-4);
    const answer = await client.completions.create({ model: "quickstart", prompt: "x" });
    expect(answer).toMatchObject({ metadata: { weight_version: "v2" } });

    const bad = await post(service, "/update_weights_from_disk", { model_path: join(folder, "none") });
    expect([bad.status, bad.body.success]).toEqual([400, false]);
    expect(await gapTo("quickstart", prompt, other)).toBeLessThan(1e-4);
    expect((await get(service, "/flush_cache")).status).toBe(200);
  });

  test("broken weights are refused by name and leave those before in use; where these are gone, it is unhealthy until others come", async () => {
    const weightsOf = async (name: string, value: number): Promise<string> => {
      const { weights } = readPolicy(other);
      weights["model.norm.weight"]!.fill(value);
      await writePolicy(join(folder, name), config, weights, shipped);
      return join(folder, name);
    };
    const take = (model_path: string) => post(service, "/update_weights_from_disk", { model_path });
    const health = async (): Promise<unknown> => (await get(service, "/health")).body.status;
    await take(other);
    const before = idsOf(await complete({ seed: 2 }));
    const nan = await take(await weightsOf("nan", Number.NaN));
    expect([nan.status, nan.body.message]).toEqual([
      400,
      `${join(folder, "nan", "model.safetensors")}: model.norm.weight: need finite numbers, but element 0 is NaN. The weights are broken: fetch them again, or take an earlier checkpoint.`,
    ]);
    expect([idsOf(await complete({ seed: 2 })), await health()]).toEqual([before, "ok"]);

    const huge = await take(await weightsOf("huge", 3e38));
    expect(huge.status).toBe(400);
    expect(huge.body.message).toContain(
      "need a policy that gives finite log-probabilities; its weights are finite, but numbers overflow",
    );
    expect([idsOf(await complete({ seed: 2 })), await health()]).toEqual([before, "ok"]);

    const gone = await weightsOf("gone", 1);
    expect((await take(gone)).status).toBe(200);
    rmSync(gone, { recursive: true });
    expect((await take(join(folder, "huge"))).status).toBe(400);
    await expect(complete({ seed: 2 })).rejects.toMatchObject({ status: 500 });
    expect(await health()).toBe("unavailable");
    expect((await take(other)).status).toBe(200);
    expect([idsOf(await complete({ seed: 2 })), await health()]).toEqual([before, "ok"]);
  });

  test("an adapter that comes while the weights change is put on the new ones", async () => {
    const update = (model_path: string) => post(service, "/update_weights_from_disk", { model_path });
    const load = { lora_name: "raced", lora_path: adapter };
    expect((await update(shipped)).status).toBe(200);
    const [changed, loaded] = await Promise.all([
      update(other),
      post(service, "/v1/load_lora_adapter", load),
    ]);
    const isChanged = changed.status === 200; // else the adapter was first, and the change was refused
    expect([loaded.status, isChanged || /Unload the adapters first/.test(changed.body.message)]).toEqual([
      200,
      true,
    ]);
    const onto = join(folder, "onto");
    const { weights } = readPolicy(isChanged ? other : shipped);
    const [base, tuned] = [readPolicy(shipped).weights, readPolicy(adapter).weights];
    for (const [name, values] of Object.entries(weights))
      values.forEach((value, i) => {
        values[i] = value + (tuned[name]![i]! - base[name]![i]!);
      });
    await writePolicy(onto, config, weights, shipped);
    expect(await gapTo("raced", prompt, onto)).toBeLessThan(1e-3);
    await post(service, "/v1/unload_lora_adapter", { lora_name: "raced" });
  });
});

describe("a policy so large that it is computed on where it stands", () => {
  const cache = join(folder, "cache");
  const large = parseDecoderConfig({
    ...{ model_type: "qwen2", hidden_size: 64, intermediate_size: 64, num_hidden_layers: 1 },
    ...{
      num_attention_heads: 1,
      vocab_size: 1_000_448,
      max_position_embeddings: 512,
      tie_word_embeddings: true,
    },
  });
  const write = async (name: string, seed: number): Promise<string> => {
    const weights = Object.fromEntries(
      Object.entries(parameterShapes(large)).map(([parameter, shape]) => {
        const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
        for (let i = 0, state = seed; i < values.length; i++) {
          state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
          values[i] = state / 2 ** 31 - 1;
        }
        return [parameter, values];
      }),
    );
    await writePolicy(join(folder, name), large, weights, shipped);
    return join(folder, name);
  };
  const entries = (): string[] =>
    readdirSync(join(cache, "served")).filter((name) => !name.endsWith(".lock"));

  test("its new weights answer at every length after their folder is gone, and nothing of them is left at the end", async () => {
    const args = ["--device", "cpu", "--threads", "1", "--slots", "1", "--name", "quickstart"];
    const started = ["--policy", await write("large", 1), "--port", "0"];
    const own = await startService(args, { RETORT_CACHE: cache }, started);
    try {
      const ask = completer(() => clientOf(own));
      const long = {
        prompt: Array.from({ length: 400 }, (_, i) => 5 + (i % 50)),
        temperature: 0,
        max_tokens: 3,
      };
      const take = async (model_path: string): Promise<unknown> =>
        (await post(own, "/update_weights_from_disk", { model_path })).status;
      const before = idsOf(await ask(long));
      const pushed = await write("pushed", 2);
      expect(await take(pushed)).toBe(200);
      expect(entries().length).toBe(1);
      renameSync(pushed, join(folder, "moved"));
      const after = idsOf(await ask(long));
      expect(after).not.toEqual(before);
      expect(await take(join(folder, "moved"))).toBe(200);
      expect(idsOf(await ask(long))).toEqual(after);
      expect(entries().length).toBe(1);
    } finally {
      await own.stop();
    }
    expect(readdirSync(join(cache, "served"))).toEqual([]);
  });
});
