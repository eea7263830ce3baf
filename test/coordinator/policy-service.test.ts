/** `retort serve --policy` as its clients meet it: the real process, asked through the official `openai` package. */
import OpenAI, { APIError } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { retort } from "../cli/retort.js";
import { get, metric, post, type ServiceProcess, until } from "../verifiers/service-process.js";
import {
  clientOf,
  completer,
  type Extended,
  idsOf,
  prompt,
  SLOTS,
  scores,
  shipped,
  startPolicy,
  tokenizer,
  worstGap,
} from "./policy-process.js";

let service: ServiceProcess;
let client: OpenAI;
const complete = completer(() => client);
const underWay = async (of: ServiceProcess): Promise<number | undefined> =>
  (await metric(of, "retort_completions_under_way"))[""];

beforeAll(async () => {
  service = await startPolicy();
  client = clientOf(service);
});
afterAll(() => service.stop());

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

  test("clients that go away take their completions with them, and that is no failure of ours", async () => {
    const cancelled = async (): Promise<number> => (await metric(service, "retort_cancelled_total"))[""]!;
    const [before, rejected] = [await cancelled(), await metric(service, "retort_rejected_total")];
    // More than there are slots, so that they are seen under way however slowly we look.
    const n = 8 * SLOTS;
    const asked = { model: "quickstart", prompt: prompt as never, n, max_tokens: 400, ignore_eos: true };
    const headers = { "content-type": "application/json" };
    for (let gone = 1; gone <= 6; gone++) {
      const stop = new AbortController();
      const body = JSON.stringify({ ...asked, stream: gone % 3 > 0 });
      const answer = fetch(`${service.url}/v1/completions`, {
        method: "POST",
        headers,
        body,
        signal: stop.signal,
      });
      if (gone % 3 > 0) await (await answer).body!.getReader().read();
      else await until("they are under way", async () => (await underWay(service)) === n);
      stop.abort();
      await answer.catch(() => {});
      await until("they are called off", async () => (await cancelled()) === before + gone);
    }
    expect(await metric(service, "retort_completions_under_way")).toEqual({ "": 0 });
    expect(await metric(service, "retort_rejected_total")).toEqual(rejected);
    expect(service.stderr()).not.toContain("internal error");
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

  test("an index of a random stream that it has not is refused, not waited for", async () => {
    expect(await refused({ n: 3, sample_index: Number.MAX_SAFE_INTEGER })).toEqual([
      400,
      "invalid_request_error",
      null,
      "sample_index",
    ]);
    const [last] = await complete({ sample_index: 2 ** 32 - 128, max_tokens: 2 });
    expect(last!.token_ids.length).toBeGreaterThan(0);
  });

  test("more prompts than fit are refused before any is made tokens", async () => {
    const prompts = Array<string>(60_000).fill("x"); // each of them would be refused for its length
    await expect(complete({ prompt: prompts, max_tokens: 4000 })).rejects.toMatchObject({
      status: 429,
      message: expect.stringMatching(/60000 completions are asked for, 0 are under way/),
    });
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
    await until("it is called off", async () => (await underWay(short)) === 0);
    let ended: Promise<number | string> | null = null;
    let tokens = 0;
    const body = { ...endless, max_tokens: 300, return_token_ids: true };
    const answer = await own.completions.create(body as never);
    for await (const { choices } of answer as unknown as AsyncIterable<{ choices: Extended[] }>) {
      ended ??= short.stop(); // it is under way
      tokens += idsOf(choices).flat().length;
    }
    expect(tokens).toBe(300);
    expect(await ended).toBe(0);
  });
});
