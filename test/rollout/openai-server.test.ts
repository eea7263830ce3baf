/** Engine `openai` against a real HTTP server that fails in the ways that sampling servers do. */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { ConfigError, InfrastructureError } from "../../core/index.js";
import { createRemoteSampler, type OpenaiEngine, type SampledSequence } from "../../rollout/index.js";

interface Asked {
  readonly path: string;
  readonly body: Record<string, unknown>;
  /** Whatever is the same in every try of one completion. */
  readonly key: string;
  /** Earlier tries of it. */
  readonly before: number;
}

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const send = (response: ServerResponse, status: number, value: unknown): void => {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
};

/** A completion that says its seed, so that a test sees whose it is. */
const completion = ({ body }: Asked, version?: string): unknown => ({
  choices: [
    {
      finish_reason: "length",
      token_ids: [Number(body.seed) % 1000, 7],
      logprobs: { token_logprobs: [-1, -2] },
    },
  ],
  ...(version === undefined ? {} : { metadata: { weight_version: version } }),
});

/** @param onGet - what it does when its models are asked for, instead of having no such list */
async function serve(
  answer: (asked: Asked, response: ServerResponse) => void,
  onGet?: () => void,
): Promise<{
  engine: OpenaiEngine;
  asked: Asked[];
  mostOpen(): number;
}> {
  const asked: Asked[] = [];
  let [open, most] = [0, 0];
  const server = createServer((request, response) => {
    if (request.method === "GET") return onGet === undefined ? send(response, 404, {}) : onGet();
    open++;
    most = Math.max(most, open);
    response.once("close", () => {
      open--;
    });
    let text = "";
    request.on("data", (chunk) => {
      text += String(chunk);
    });
    request.on("end", () => {
      const body = JSON.parse(text) as Record<string, unknown>;
      const key = JSON.stringify([request.url, body.prompt, body.seed]);
      const one = { path: request.url!, body, key, before: asked.filter((each) => each.key === key).length };
      asked.push(one);
      answer(one, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const engine: OpenaiEngine = {
    type: "openai",
    base_url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    model: "m",
    api: "completions",
    api_key_env: "NONE",
    concurrency: 3,
    timeout_s: 1,
    patience_s: 60,
    weights: { push: "none" },
  };
  return { engine, asked, mostOpen: () => most };
}

const options = { seed: 4, temperature: 1, topP: 1, topK: 0, maxNewTokens: 2, stopIds: [0] };
const groups = [0, 1].map((group) => ({
  group,
  randomKey: `task-${group}`,
  promptIds: [1, 2, group],
  samples: [0, 1, 2, 3],
}));

async function sample(
  engine: OpenaiEngine,
  weights?: string,
): Promise<{ drawn: SampledSequence[]; notes: string[] }> {
  const [drawn, notes]: [SampledSequence[], string[]] = [[], []];
  const remote = createRemoteSampler(engine, null, (line) => notes.push(line));
  closers.push(() => remote.close());
  if (weights !== undefined) remote.setWeights({ folder: "/w", version: weights });
  await remote.sample(groups, options, (sequence) => drawn.push(sequence));
  return { drawn, notes };
}

test("whatever fails is drawn again with its own seed; nothing is lost, and nothing comes twice", async () => {
  const failures: ((response: ServerResponse) => void)[] = [
    (response) => send(response, 503, { error: "overloaded" }),
    (response) => void response.destroy(),
    () => {}, // never answers
    (response) => {
      response.writeHead(200, { "content-length": "1000" });
      response.write('{"choices":[');
      setTimeout(() => response.destroy(), 10);
    },
    (response) => send(response, 200, { choices: [{ finish_reason: "abort", token_ids: [1] }] }),
  ];
  const { engine, asked, mostOpen } = await serve((one, response) => {
    const failure = one.before === 0 ? failures[asked.length % (failures.length + 1)] : undefined;
    if (failure === undefined) send(response, 200, completion(one));
    else failure(response);
  });
  const { drawn, notes } = await sample(engine);
  const places = drawn.map(({ group, sample: index }) => `${group}.${index}`).sort();
  expect(places).toEqual(["0.0", "0.1", "0.2", "0.3", "1.0", "1.1", "1.2", "1.3"]);
  expect(new Set(asked.map(({ key }) => key)).size).toBe(8); // 8 completions, each under one seed
  expect(asked.length).toBeGreaterThan(8);
  for (const { completionIds, rolloutLogProbs, finishReason } of drawn)
    expect([completionIds[1], rolloutLogProbs, finishReason]).toEqual([7, [-1, -2], "length"]);
  expect(mostOpen()).toBeLessThanOrEqual(3);
  expect(notes[0]).toMatch(/the sampling server does not answer \(.*\); trying again/);
  expect(notes.at(-1)).toBe("the sampling server answers again");
});

test("an answer from other weights is thrown away, the weights are handed over again, and nobody is asked meanwhile", async () => {
  let held = "default";
  let open = 0;
  let pushes = 0;
  const { engine } = await serve((one, response) => {
    if (one.path === "/update_weights_from_disk") {
      expect(one.body).toMatchObject({ model_path: "/w", weight_version: "v1" });
      expect(open).toBe(0);
      pushes++;
      held = pushes === 1 ? "default" : "v1"; // it began anew right after the first
      return send(response, 200, { success: true });
    }
    open++;
    setTimeout(() => {
      open--;
      send(response, 200, completion(one, held));
    }, 5);
  });
  const { drawn } = await sample({ ...engine, weights: { push: "sglang_disk" } }, "v1");
  expect([drawn.length, pushes]).toEqual([8, 2]);
});

test("one that is merely overloaded is not given the weights again", async () => {
  let pushes = 0;
  const { engine } = await serve((one, response) => {
    if (one.path === "/update_weights_from_disk") {
      pushes++;
      return send(response, 200, { success: true });
    }
    if (one.before === 0) send(response, 429, { error: "too many" });
    else send(response, 200, completion(one, "v1"));
  });
  const { drawn } = await sample({ ...engine, weights: { push: "sglang_disk" } }, "v1");
  expect([drawn.length, pushes]).toEqual([8, 1]);
});

test("a server that never takes the weights into use is told apart from one that is away", async () => {
  const { engine } = await serve((one, response) => {
    if (one.path === "/update_weights_from_disk") send(response, 200, { success: true });
    else send(response, 200, completion(one, "default"));
  });
  const failed = sample({ ...engine, weights: { push: "sglang_disk" } }, "v1");
  await expect(failed).rejects.toThrow(InfrastructureError);
  await expect(failed).rejects.toThrow(
    "after 3 times of handing over the weights, its weights are default, not v1",
  );
});

test("an adapter that the server has lost is loaded again; the one before is unloaded", async () => {
  const loaded = new Set<string>();
  let lost = false;
  const { engine, asked } = await serve((one, response) => {
    const name = String(one.body.lora_name);
    if (one.path === "/v1/load_lora_adapter") {
      if (loaded.has(name)) return send(response, 400, { message: `${name} has already been loaded` });
      loaded.add(name);
      return send(response, 200, "Success");
    }
    if (one.path === "/v1/unload_lora_adapter") return send(response, loaded.delete(name) ? 200 : 404, {});
    if (!lost) {
      lost = true;
      loaded.clear();
    }
    if (!loaded.has(String(one.body.model))) return send(response, 404, { error: "no such model" });
    send(response, 200, completion(one));
  });
  const lora: OpenaiEngine = { ...engine, weights: { push: "vllm_lora" } };
  const remote = createRemoteSampler(lora, null, () => {});
  closers.push(() => remote.close());
  for (const version of ["v1", "v2"]) {
    remote.setWeights({ folder: "/w", version });
    const drawn: SampledSequence[] = [];
    await remote.sample(groups, options, (sequence) => drawn.push(sequence));
    expect(drawn.length).toBe(8);
  }
  expect([...loaded]).toEqual(["v2"]);
  const loads = asked.filter(({ path }) => path.endsWith("/load_lora_adapter"));
  expect(loads.map(({ body }) => body.lora_name)).toEqual(["v1", "v1", "v2"]);
});

test.each([
  { what: "whether it is there", silent: "GET" },
  { what: "the check's token", silent: "check" },
  { what: "the weights that it is given", silent: "/update_weights_from_disk" },
  { what: "a completion", silent: "sample" },
])("a stop waits for no answer of a server that hangs: $what", async ({ silent }) => {
  const stop = new AbortController();
  const { engine } = await serve(
    (one, response) => {
      const isCheck = one.path.endsWith("/completions") && one.body.max_tokens === 1;
      const what = isCheck ? "check" : one.path.endsWith("/completions") ? "sample" : one.path;
      if (what === silent) return stop.abort(new Error("stopped"));
      send(response, 200, what === "check" || what === "sample" ? completion(one, "v1") : { success: true });
    },
    silent === "GET" ? () => stop.abort(new Error("stopped")) : undefined,
  );
  const patient: OpenaiEngine = { ...engine, timeout_s: 600, weights: { push: "sglang_disk" } };
  const remote = createRemoteSampler(patient, null, () => {});
  closers.push(() => remote.close());
  remote.setWeights({ folder: "/w", version: "v1" });
  const evaluated = async (): Promise<void> => {
    await remote.check([1], stop.signal);
    await remote.sample(groups, options, () => {}, stop.signal);
  };
  await expect(evaluated()).rejects.toThrow("stopped");
});

test("patience ends, and what a server will never do is the user's to mend", async () => {
  const away = await serve((_, response) => void response.destroy());
  await expect(sample({ ...away.engine, patience_s: 0.3 })).rejects.toThrow(/away for \d+ s/);
  const strict = await serve((_, response) => send(response, 400, { message: "prompt too long" }));
  const refused = sample(strict.engine);
  await expect(refused).rejects.toThrow(ConfigError);
  await expect(refused).rejects.toThrow("prompt too long");
});
