import { afterEach, expect, test, vi } from "vitest";
import type { CompletionRequest } from "../../coordinator/completions-file.js";
import type { DrawnCompletion } from "../../coordinator/draw-completions.js";
import { baseUrl, createEndpoint, type EndpointOptions } from "../../coordinator/endpoint.js";
import { Task } from "../../core/index.js";
import { type Answer, type EndpointServer, startEndpoint } from "./endpoint-server.js";

let server: EndpointServer | null = null;
afterEach(async () => {
  await server?.close();
  server = null;
});

const requestOf = (prompt: string, sample = 0): CompletionRequest => ({
  task: Task.parse({ id: prompt, prompt, tests: [{ input: "", output: "" }] }),
  language: "bash",
  sample,
  messages: [{ role: "user", content: prompt }],
});

const optionsFor = (url: string, change: Partial<EndpointOptions> = {}): EndpointOptions => ({
  url,
  model: "m",
  api: "chat",
  concurrency: 4,
  timeoutS: 60,
  retries: 0,
  maxTokens: 7,
  body: {},
  ...change,
});

async function drawAll(
  requests: readonly CompletionRequest[],
  options: EndpointOptions,
  signal = new AbortController().signal,
): Promise<Map<string, DrawnCompletion>> {
  const drawn = new Map<string, DrawnCompletion>();
  await createEndpoint(options).draw(
    requests,
    ({ task, sample }, completion) => drawn.set(`${task.id}/${sample}`, completion),
    signal,
  );
  return drawn;
}

test("a chat request holds messages, model and what was asked for, and nothing else", async () => {
  server = await startEndpoint(() => ({ text: "hello", finish: "length" }));
  const drawn = await drawAll([requestOf("p")], {
    ...optionsFor(server.url),
    key: "sk-secret",
    temperature: 0.5,
    topP: 0.9,
    body: { top_k: 20 },
  });
  expect(drawn.get("p/0")).toEqual({ completion: "hello", isTruncated: true });
  const [{ path, authorization, body }] = server.asked as [EndpointServer["asked"][number]];
  expect([path, authorization]).toEqual(["/v1/chat/completions", "Bearer sk-secret"]);
  expect(body).toEqual({
    messages: [{ role: "user", content: "p" }],
    model: "m",
    max_tokens: 7,
    temperature: 0.5,
    top_p: 0.9,
    top_k: 20,
  });
});

test("the completions API gets the bare prompt", async () => {
  server = await startEndpoint(() => ({ text: "hello" }));
  const drawn = await drawAll([requestOf("p")], optionsFor(server.url, { api: "completions" }));
  expect(drawn.get("p/0")).toEqual({ completion: "hello", isTruncated: false });
  expect(server.asked.map(({ path, body }) => [path, body])).toEqual([
    ["/v1/completions", { prompt: "p", model: "m", max_tokens: 7 }],
  ]);
});

test("with a seed each sample has its own, the same at every call", async () => {
  server = await startEndpoint(() => ({ text: "x" }));
  const requests = [requestOf("p", 0), requestOf("p", 1), requestOf("q", 0)];
  const seeds = async (seed: number): Promise<unknown[]> => {
    const from = server!.asked.length;
    await drawAll(requests, optionsFor(server!.url, { seed, concurrency: 1 }));
    return server!.asked.slice(from).map(({ body }) => body.seed);
  };
  const first = await seeds(1);
  expect(new Set(first).size).toBe(3);
  expect(await seeds(1)).toEqual(first);
  expect(await seeds(2)).not.toEqual(first);
});

const failures: { what: string; answer: Answer; says: string | RegExp; times?: number }[] = [
  { what: "429", answer: { status: 429, json: { error: { message: "slow down" } } }, says: "429 slow down" },
  { what: "500", answer: { status: 500, json: { error: { message: "oops" } } }, says: "500 oops" },
  {
    what: "a refused prompt",
    answer: { status: 400, json: { error: { message: "too long" } } },
    says: "400 too long",
  },
  { what: "silence", answer: "hang", says: "no answer within 0.3 s" },
  { what: "silence within the body", answer: "hang within the body", says: "no answer within 0.3 s" },
  { what: "a dropped connection", answer: "drop", says: "Connection error." },
  { what: "a connection dropped within the body", answer: "drop within the body", says: "Connection error." },
  { what: "no choice", answer: { json: { choices: [] } }, says: "answered without a choice" },
  {
    what: "another object",
    answer: { json: { detail: "hi" } },
    says: 'answered without a choice: {"detail":"hi"}',
  },
  { what: "a page", answer: { html: "<html><h1>Welcome" }, says: 'no JSON object but "<html><h1>Welcome"' },
];

test.each(failures)(
  "$what is a failure with a reason, never an empty completion",
  async ({ answer, says }) => {
    server = await startEndpoint(() => answer);
    // Where something comes, a busy machine may be slow to bring it.
    const timeoutS = typeof answer === "string" && answer.startsWith("hang") ? 0.3 : 60;
    const drawn = await drawAll([requestOf("p")], optionsFor(server.url, { timeoutS }));
    expect(drawn.get("p/0")).toEqual({ failure: expect.stringContaining(says as string) });
  },
);

test.each<{ what: string; answer: Answer }>([
  {
    what: "a refusal without content",
    answer: { message: { role: "assistant", content: null, refusal: "no" } },
  },
  { what: "an empty text", answer: { text: "" } },
])("$what is the model's answer: a completion without a program", async ({ answer }) => {
  server = await startEndpoint(() => answer);
  const drawn = await drawAll([requestOf("p")], optionsFor(server.url));
  expect(drawn.get("p/0")).toEqual({ completion: "", isTruncated: false });
});

test.each<{ what: string; answer: Answer }>([
  { what: "429", answer: { status: 429, headers: { "retry-after-ms": "5" } } },
  { what: "503", answer: { status: 503, headers: { "retry-after-ms": "5" } } },
  { what: "a dropped connection", answer: "drop" },
  { what: "a connection dropped within the body", answer: "drop within the body" },
  { what: "silence within the body", answer: "hang within the body" },
])("$what is tried again", async ({ answer }) => {
  server = await startEndpoint((_, before) => (before === 0 ? answer : { text: "at last" }));
  const timeoutS = answer === "hang within the body" ? 2 : 60;
  const drawn = await drawAll([requestOf("p")], optionsFor(server.url, { retries: 2, timeoutS }));
  expect(drawn.get("p/0")).toEqual({ completion: "at last", isTruncated: false });
  expect(server.asked.length).toBe(2);
});

test("never more requests at once than allowed", async () => {
  server = await startEndpoint(async () => {
    await new Promise((go) => setTimeout(go, 20));
    return { text: "x" };
  });
  const requests = Array.from({ length: 12 }, (_, sample) => requestOf("p", sample));
  const drawn = await drawAll(requests, optionsFor(server.url, { concurrency: 3 }));
  expect([drawn.size, server.mostOpen()]).toEqual([12, 3]);
});

test("requests a minute are kept to, tries of failed ones included", async () => {
  server = await startEndpoint((_, before) =>
    before === 0 ? { status: 500, headers: { "retry-after-ms": "1" } } : { text: "x" },
  );
  // When they are sent, not when they arrive: the first takes longer on its way than the last.
  const at: number[] = [];
  const { fetch } = globalThis;
  vi.stubGlobal("fetch", (...asked: Parameters<typeof fetch>) => {
    at.push(performance.now());
    return fetch(...asked);
  });
  const requests = ["a", "b", "c"].map((prompt) => requestOf(prompt));
  await drawAll(requests, optionsFor(server.url, { requestsPerMinute: 300, retries: 1 }));
  vi.unstubAllGlobals();
  expect(at.length).toBe(6);
  // Five a second: six requests take five intervals of 200 ms, three two.
  expect(at.at(-1)! - at[0]!).toBeGreaterThan(700);
});

test.each([
  { status: 401, fix: "RETORT_API_KEY" },
  { status: 404, fix: "the model's name as the server spells it" },
])("$status ends everything at once: no request would ever be answered", async ({ status, fix }) => {
  server = await startEndpoint(() => ({
    status,
    json: { error: { message: "Incorrect API key provided: sk-secret" } },
  }));
  const requests = Array.from({ length: 50 }, (_, sample) => requestOf("p", sample));
  const drawing = drawAll(requests, optionsFor(server.url, { key: "sk-secret" }));
  await expect(drawing).rejects.toThrow(fix);
  await expect(drawing).rejects.toThrow("Incorrect API key provided: [key]");
  await expect(drawing).rejects.not.toThrow("sk-secret");
  expect(server.asked.length).toBeLessThanOrEqual(4);
});

test("an endpoint that is down is given up after a dozen requests; one that refuses single prompts is not", async () => {
  server = await startEndpoint(() => ({ status: 503 }));
  const requests = Array.from({ length: 50 }, (_, sample) => requestOf(`p${sample}`));
  await expect(drawAll(requests, optionsFor(server.url))).rejects.toThrow(
    "has answered none of the last requests",
  );
  expect(server.asked.length).toBeLessThan(20);
  await server.close();
  server = await startEndpoint(() => ({ status: 400 }));
  expect((await drawAll(requests, optionsFor(server.url))).size).toBe(50);
});

test("stopped, it drops its requests and hands nothing on", async () => {
  const stop = new AbortController();
  server = await startEndpoint(() => {
    if (server!.asked.length === 4) setTimeout(() => stop.abort(new Error("stopped")), 30);
    return "hang";
  });
  const requests = Array.from({ length: 9 }, (_, sample) => requestOf("p", sample));
  const drawn = await drawAll(requests, optionsFor(server.url), stop.signal);
  expect([drawn.size, server.asked.length]).toEqual([0, 4]);
});

test.each([
  ["http://h:1", "http://h:1/v1"],
  ["http://h:1/", "http://h:1/v1"],
  ["http://h:1/v1/", "http://h:1/v1"],
  ["https://h/api/v1/chat/completions", "https://h/api/v1"],
  ["https://h/v1/completions", "https://h/v1"],
])("the base address of %s is %s", (text, want) => {
  expect(baseUrl(text)).toBe(want);
});
