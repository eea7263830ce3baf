/** `retort serve --policy` as its clients meet it: the real process, asked through the official `openai` package. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI, { APIError } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { replaceFile } from "../../checkpoints/index.js";
import { packageRoot } from "../../core/index.js";
import {
  adapterFiles,
  initialAdapter,
  initialWeights,
  readDecoderConfig,
  readPolicy,
  readTokenizer,
  writePolicy,
} from "../../policy/index.js";
import { retort } from "../cli/retort.js";
import { get, metric, post, type ServiceProcess, startService, until } from "../verifiers/service-process.js";

const shipped = join(packageRoot, "checkpoints", "quickstart");
const folder = mkdtempSync(join(tmpdir(), "policy-service-"));
const tokenizer = readTokenizer(shipped);
const config = readDecoderConfig(shipped);
const prompt = tokenizer.promptIds([{ role: "user", content: "Read a word. Report it reversed." }]);

/** Two, to see that requests share the slots and wait for them. */
const SLOTS = 3;
let service: ServiceProcess;
let client: OpenAI;

const startPolicy = (args: readonly string[] = [], env: Record<string, string> = {}) =>
  startService(["--device", "cpu", "--threads", "1", "--slots", String(SLOTS), ...args], env, [
    "--policy",
    shipped,
    "--port",
    "0",
  ]);

beforeAll(async () => {
  service = await startPolicy();
  client = new OpenAI({ baseURL: `${service.url}/v1`, apiKey: "none", maxRetries: 0 });
});
afterAll(async () => {
  await service.stop();
  rmSync(folder, { recursive: true });
});

/** What vLLM and we add to OpenAI's choices. */
interface Extended {
  readonly index: number;
  readonly text: string;
  readonly finish_reason: string | null;
  readonly stop_reason: string | number | null;
  readonly token_ids: number[];
  readonly prompt_token_ids?: number[];
  readonly logprobs: { token_logprobs: number[]; tokens: string[]; text_offset: number[] } | null;
}

async function complete(body: Record<string, unknown>): Promise<Extended[]> {
  const answer = await client.completions.create({
    model: "quickstart",
    prompt: prompt as never,
    max_tokens: 40,
    return_token_ids: true,
    ...body,
  } as never);
  return (answer as unknown as { choices: Extended[] }).choices;
}

const idsOf = (choices: readonly Extended[]): number[][] => choices.map(({ token_ids }) => token_ids);

async function scores(policy: string, rows: readonly (readonly number[])[]): Promise<number[][]> {
  const file = join(folder, "ids.jsonl");
  writeFileSync(file, rows.map((ids) => `${JSON.stringify({ ids })}\n`).join(""));
  const { stdout } = await retort(["score", "--policy", policy, "--ids", file, "--device", "cpu"]);
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => (JSON.parse(line) as { log_probs: number[] }).log_probs);
}

const worstGap = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, index) => Math.abs(value - b[index]!)));

describe("completions", () => {
  test("the policy is listed, and a chat says what `retort generate` says", async () => {
    const models = await client.models.list();
    expect(models.data.map(({ id, owned_by }) => [id, owned_by])).toEqual([["quickstart", "retort"]]);
    const question = "Read a word. Report it reversed.";
    const answer = await client.chat.completions.create({
      model: "quickstart",
      temperature: 0,
      messages: [{ role: "user", content: question }],
    });
    const generated = await retort([
      "generate",
      "--policy",
      shipped,
      "--prompt",
      question,
      "--device",
      "cpu",
    ]);
    expect(`${answer.choices[0]!.message.content}\n`).toBe(generated.stdout);
    expect(answer.choices[0]!.finish_reason).toBe("stop");
    expect(answer.usage).toEqual({
      prompt_tokens: prompt.length,
      completion_tokens: answer.usage!.completion_tokens,
      total_tokens: prompt.length + answer.usage!.completion_tokens,
    });
  });

  test("log-probabilities are those of `retort score`, of every token that was drawn, its end included", async () => {
    const choices = await complete({ n: 4, seed: 1, logprobs: 2, max_tokens: 300 });
    const scored = await scores(
      shipped,
      choices.map(({ token_ids }) => [...prompt, ...token_ids]),
    );
    choices.forEach(({ token_ids, logprobs }, index) => {
      const own = scored[index]!.slice(prompt.length - 1);
      expect(token_ids.length).toBe(own.length);
      expect(worstGap(logprobs!.token_logprobs, own)).toBeLessThan(1e-4);
    });
    expect(choices.map(({ token_ids }) => tokenizer.stopIds.includes(token_ids.at(-1)!))).toEqual(
      choices.map(({ finish_reason }) => finish_reason === "stop"),
    );
  });

  test("top_logprobs name the likeliest tokens, and the greedy token is the first of them", async () => {
    const { choices } = await client.chat.completions.create({
      model: "quickstart",
      messages: [{ role: "user", content: "Read a word. Report it reversed." }],
      temperature: 0,
      max_completion_tokens: 12,
      logprobs: true,
      top_logprobs: 5,
    });
    const tokens = choices[0]!.logprobs!.content!;
    expect(tokens.length).toBe(12);
    for (const { token, logprob, top_logprobs } of tokens) {
      expect(top_logprobs[0]).toMatchObject({ token, logprob });
      const values = top_logprobs.map((each) => each.logprob);
      expect([...values].sort((a, b) => b - a)).toEqual(values);
      expect(values.reduce((sum, value) => sum + Math.exp(value), 0)).toBeLessThan(1 + 1e-6);
    }
  });

  test("a seed fixes each choice, alone or beside others, in one request or in many", async () => {
    const together = await complete({ n: 5, seed: 7 });
    expect(new Set(idsOf(together).map(String)).size).toBeGreaterThan(1);
    const requests = [0, 1, 2, 3, 4].map((sample_index) => complete({ seed: 7, sample_index }));
    const beside = [complete({ n: 3, seed: 8 }), complete({ n: 2, temperature: 0.5, top_p: 0.8, seed: 9 })];
    const alone = (await Promise.all(requests)).flat();
    await Promise.all(beside);
    expect(idsOf(alone)).toEqual(idsOf(together));
    expect(idsOf(await complete({ n: 5, seed: 10 }))).not.toEqual(idsOf(together));
  });

  test("a list of prompts gives the choices of each, in order", async () => {
    const other = tokenizer.promptIds([{ role: "user", content: "Read two numbers. Report their sum." }]);
    const both = await complete({ prompt: [prompt, other], n: 2, seed: 3 });
    const [first, second] = [
      await complete({ n: 2, seed: 3 }),
      await complete({ prompt: other, n: 2, seed: 3 }),
    ];
    expect(both.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(idsOf(both)).toEqual([...idsOf(first), ...idsOf(second)]);
    expect(both.map(({ prompt_token_ids }) => prompt_token_ids)).toEqual([prompt, prompt, other, other]);
  });

  test("a text prompt is its ids, and echo puts it before the completion", async () => {
    const text = "print(";
    const [plain] = await complete({ prompt: text, temperature: 0, max_tokens: 5 });
    expect(plain!.prompt_token_ids).toEqual(tokenizer.encode(text));
    const [echoed] = await complete({ prompt: text, temperature: 0, max_tokens: 5, echo: true });
    expect(echoed!.text).toBe(text + plain!.text);
  });

  test("a stop text ends the completion before it, a stop id after it, and both are named", async () => {
    const [whole] = await complete({ temperature: 0, max_tokens: 200 });
    const stop = whole!.text.slice(10, 13);
    const [cut] = await complete({ temperature: 0, max_tokens: 200, stop: ["never there", stop] });
    expect(cut!.text).toBe(whole!.text.slice(0, whole!.text.indexOf(stop)));
    expect([cut!.finish_reason, cut!.stop_reason]).toEqual(["stop", stop]);
    const [kept] = await complete({
      temperature: 0,
      max_tokens: 200,
      stop,
      include_stop_str_in_output: true,
    });
    expect(kept!.text).toBe(cut!.text + stop);
    const id = whole!.token_ids[6]!;
    const [byId] = await complete({ temperature: 0, max_tokens: 200, stop_token_ids: [id] });
    expect(byId!.token_ids).toEqual(whole!.token_ids.slice(0, whole!.token_ids.indexOf(id) + 1));
    expect([byId!.finish_reason, byId!.stop_reason]).toEqual(["stop", id]);
  });
});

describe("streams", () => {
  test("the pieces of a stream are the whole answer: text, ids, log-probabilities, usage", async () => {
    const body = { n: 3, seed: 5, logprobs: 1, stop: "\n\n\n", return_token_ids: true, max_tokens: 120 };
    const whole = await complete(body);
    const stream = await client.completions.create({
      model: "quickstart",
      prompt: prompt as never,
      stream: true,
      stream_options: { include_usage: true },
      ...body,
    } as never);
    const pieces: Extended[][] = [[], [], []];
    let usage: unknown = null;
    for await (const chunk of stream as unknown as AsyncIterable<{ choices: Extended[]; usage?: unknown }>) {
      for (const choice of chunk.choices) pieces[choice.index]!.push(choice);
      usage = chunk.usage ?? usage;
    }
    for (const { index, text, token_ids, logprobs, finish_reason } of whole) {
      const own = pieces[index]!;
      expect(own.length).toBeGreaterThan(1);
      expect(own.map((piece) => piece.text).join("")).toBe(text);
      expect(own.flatMap((piece) => piece.token_ids)).toEqual(token_ids);
      expect(own.flatMap((piece) => piece.logprobs!.token_logprobs)).toEqual(logprobs!.token_logprobs);
      expect(own.map((piece) => piece.finish_reason)).toEqual([
        ...own.slice(1).map(() => null),
        finish_reason,
      ]);
      expect(own.map((piece) => piece.prompt_token_ids)).toEqual([
        prompt,
        ...own.slice(1).map(() => undefined),
      ]);
    }
    const tokens = idsOf(whole).flat().length;
    expect(usage).toEqual({
      prompt_tokens: prompt.length,
      completion_tokens: tokens,
      total_tokens: prompt.length + tokens,
    });
  });

  test("the official client's helper assembles a streamed chat", async () => {
    const messages = [{ role: "user" as const, content: "Read a word. Report it reversed." }];
    const request = { model: "quickstart", messages, temperature: 0 };
    const whole = await client.chat.completions.create(request);
    const assembled = await client.chat.completions.stream(request).finalChatCompletion();
    expect(assembled.choices[0]!.message.content).toBe(whole.choices[0]!.message.content);
    expect(assembled.choices[0]!.finish_reason).toBe("stop");
  });

  test("a client that goes away takes its completions with it", async () => {
    const before = (await metric(service, "retort_cancelled_total"))[""]!;
    const stop = new AbortController();
    const stream = await client.completions.create(
      {
        model: "quickstart",
        prompt: prompt as never,
        n: 3,
        stream: true,
        max_tokens: 400,
        ignore_eos: true,
      } as never,
      { signal: stop.signal },
    );
    for await (const _ of stream as unknown as AsyncIterable<unknown>) break;
    stop.abort();
    await until(async () => (await metric(service, "retort_cancelled_total"))[""] === before + 1);
    expect(await metric(service, "retort_completions_under_way")).toEqual({ "": 0 });
    expect((await complete({ temperature: 0, max_tokens: 3 }))[0]!.token_ids.length).toBe(3);
  });
});

describe("refusals", () => {
  const refused = async (body: Record<string, unknown>): Promise<unknown> => {
    const error: unknown = await complete(body).catch((caught: unknown) => caught);
    if (!(error instanceof APIError)) throw new Error(`no refusal: ${JSON.stringify(error)}`);
    return [error.status, error.type, error.code, error.param];
  };

  test("each mistake has OpenAI's status, type, code and field", async () => {
    const wrong = "invalid_request_error";
    expect(await refused({ model: "gpt-9" })).toEqual([404, "not_found_error", "model_not_found", "model"]);
    expect(await refused({ max_tokens: 4000 })).toEqual([400, wrong, "context_length_exceeded", null]);
    expect(await refused({ prompt: Array(600).fill(5) })).toEqual([
      400,
      wrong,
      "context_length_exceeded",
      null,
    ]);
    expect(await refused({ prompt: [99_999] })).toEqual([400, wrong, null, "prompt"]);
    expect(await refused({ temperature: -1 })).toEqual([400, wrong, null, "temperature"]);
    expect(await refused({ presence_penalty: 1 })).toEqual([400, wrong, null, "presence_penalty"]);
    expect(await refused({ temprature: 1 })).toEqual([400, wrong, null, "temprature"]);
    const { body } = await post(service, "/v1/completions", { prompt: "x", temprature: 1 });
    expect(body.error.message).toBe(
      "temprature: is no field that is understood here; did you mean temperature?",
    );
    expect((await post(service, "/v1/chat/completions", { messages: [] })).status).toBe(400);
    expect((await post(service, "/v1/completions", "{")).status).toBe(400);
  });

  test("more than fit are told to come back; with a token, only who brings it is answered", async () => {
    const narrow = await startPolicy(["--max-queue", "1"], { RETORT_TOKEN: "secret" });
    const own = new OpenAI({ baseURL: `${narrow.url}/v1`, apiKey: "secret", maxRetries: 0 });
    const ask = (n: number) => own.completions.create({ model: "quickstart", prompt: "x", n, max_tokens: 2 });
    expect((await ask(SLOTS + 1)).choices.length).toBe(SLOTS + 1);
    await expect(ask(SLOTS + 2)).rejects.toMatchObject({ status: 429, code: "overloaded" });
    const stranger = new OpenAI({ baseURL: `${narrow.url}/v1`, apiKey: "guess", maxRetries: 0 });
    await expect(stranger.models.list()).rejects.toMatchObject({ status: 401, code: "invalid_api_key" });
    expect((await get(narrow, "/health")).body).toEqual({ status: "ok", under_way: 0 });
    expect(await narrow.stop()).toBe(0);
  });

  test("told to stop, it finishes what it has, and waits for nobody who has gone", async () => {
    const short = await startPolicy(["--grace-s", "10000"]);
    const own = new OpenAI({ baseURL: `${short.url}/v1`, apiKey: "none", maxRetries: 0 });
    const left = new AbortController();
    const endless = {
      model: "quickstart",
      prompt: prompt as never,
      stream: true,
      max_tokens: 400,
      ignore_eos: true,
    };
    const stream = await own.completions.create(endless as never, { signal: left.signal });
    for await (const _ of stream as unknown as AsyncIterable<unknown>) break;
    left.abort();
    await until(async () => (await metric(short, "retort_completions_under_way"))[""] === 0);
    const body = { model: "quickstart", prompt: prompt as never, max_tokens: 300, ignore_eos: true };
    const answer = own.completions.create(body as never);
    await until(async () => (await metric(short, "retort_completions_under_way"))[""] === 1);
    const ended = short.stop();
    expect((await answer).usage!.completion_tokens).toBe(300);
    expect(await ended).toBe(0);
  });
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
    const first = idsOf(await complete({ seed: 2, max_tokens: 200, ignore_eos: true }));
    const long = complete({ seed: 2, max_tokens: 200, ignore_eos: true });
    await until(async () => (await metric(service, "retort_completions_under_way"))[""] === 1);
    const body = { model_path: other, weight_version: "v2" };
    const update = post(service, "/update_weights_from_disk", body);
    expect(idsOf(await long)).toEqual(first);
    expect((await update).body).toMatchObject({
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

  test("broken weights are refused by name; it is unhealthy only until weights come that work", async () => {
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
    await expect(complete({ seed: 2 })).rejects.toMatchObject({ status: 500 });
    expect(await health()).toBe("unavailable");
    expect((await take(other)).status).toBe(200);
    expect([idsOf(await complete({ seed: 2 })), await health()]).toEqual([before, "ok"]);
  });
});
