import { afterAll, describe, expect, test } from "vitest";
import { type DecoderConfig, initialWeights, parseDecoderConfig } from "../../policy/index.js";
import { createHostCache } from "../../rollout/host-cache.js";
import {
  type Completion,
  type CompletionRequest,
  createEngine,
  type SamplingEngine,
  type StartedRequest,
  type StreamedToken,
} from "../../rollout/index.js";
import { SlotLoop } from "../../rollout/slot-loop.js";
import { liveSteps } from "../../rollout/step-graphs.js";

const config: DecoderConfig = parseDecoderConfig({
  model_type: "llama",
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  vocab_size: 23,
});
const weightsOf = (seed: number) => initialWeights(config, seed, { embeddingStd: 1, matrixScale: 1.5 });

const opened: SamplingEngine[] = [];
afterAll(async () => {
  for (const engine of opened) await engine.dispose();
});
const open = async (threads: number, slots: number): Promise<SamplingEngine> => {
  const shape = { slots, promptLength: 4, cacheLength: 200 };
  const engine = await createEngine({ config, shape, provider: "cpu", threads });
  engine.setWeights(weightsOf(1));
  opened.push(engine);
  return engine;
};

type Starter = Pick<SamplingEngine, "start">;

const request = (changes: Partial<CompletionRequest> = {}): CompletionRequest => ({
  randomKey: "live",
  promptIds: [1, 3, 5],
  samples: [0],
  seed: 5,
  temperature: 1,
  topP: 1,
  topK: 0,
  maxNewTokens: 12,
  stopIds: [],
  ...changes,
});

interface Heard {
  readonly tokens: { sample: number; token: StreamedToken }[];
  readonly completions: Completion[];
}

/** Starts a request; `done` when all its samples have ended, `heard` what it was told until now. */
function follow(
  engine: Starter,
  asked: CompletionRequest,
  onToken: (count: number, started: StartedRequest) => void = () => {},
): { started: StartedRequest; heard: Heard; done: Promise<Heard> } {
  const heard: Heard = { tokens: [], completions: [] };
  let started: StartedRequest;
  const done = new Promise<Heard>((resolve, reject) => {
    started = engine.start(asked, {
      onToken: (sample, token) => {
        heard.tokens.push({ sample, token });
        onToken(heard.tokens.length, started);
      },
      onFinished: (completion) => {
        heard.completions.push(completion);
        if (heard.completions.length === asked.samples.length) resolve(heard);
      },
      onError: reject,
    });
  });
  return { started: started!, heard, done };
}

const alone = async (engine: Starter, asked: CompletionRequest): Promise<Completion[]> => {
  const { completions } = await follow(engine, asked).done;
  return completions.sort((a, b) => a.sample - b.sample);
};

describe.each([
  { name: "one lane", threads: 1, slots: 4 },
  { name: "two lanes", threads: 2, slots: 8 },
])("a sampler of $name", ({ threads, slots }) => {
  let shared: Promise<SamplingEngine> | undefined;
  const sampler = async (): Promise<SamplingEngine> => {
    shared ??= open(threads, slots);
    (await shared).setWeights(weightsOf(1));
    return shared;
  };

  test("takes requests with parameters of their own while others run, and draws for each what it draws alone", async () => {
    const engine = await sampler();
    const long = request({ maxNewTokens: 120, samples: [0, 1, 2] });
    const others = [
      request({ randomKey: "a", temperature: 0 }),
      request({ randomKey: "b", topK: 3, seed: 6, samples: [4, 5] }),
      request({ randomKey: "c", temperature: 2, topP: 0.7, stopIds: [7, 8, 9, 10] }),
    ];
    const expected = [];
    for (const asked of [long, ...others]) expected.push(await alone(engine, asked));
    const joined: Promise<Heard>[] = [];
    const { done } = follow(engine, long, (count) => {
      if (count === 20) for (const asked of others) joined.push(follow(engine, asked).done);
    });
    const heard = [await done, ...(await Promise.all(joined))];
    expect(heard.map(({ completions }) => completions.sort((a, b) => a.sample - b.sample))).toEqual(expected);
    expect(expected[3]![0]!.finishReason).toBe("stop");
  });

  test("hands on each token as it is drawn, with the log-prob that the completion records", async () => {
    const engine = await sampler();
    const { tokens, completions } = await follow(engine, request({ samples: [0, 1], topK: 4 })).done;
    for (const { sample, completionIds, rolloutLogProbs, cutLogProbs } of completions) {
      const own = tokens.filter((token) => token.sample === sample).map(({ token }) => token);
      expect(own.map(({ id }) => id)).toEqual(completionIds);
      expect(own.map(({ logProb }) => logProb)).toEqual(rolloutLogProbs);
      expect(own.map(({ cutLogProb }) => cutLogProb)).toEqual(cutLogProbs);
    }
    expect(tokens.length).toBe(24);
  });

  test("a cancelled request is told nothing more, and its slots serve the next", async () => {
    const engine = await sampler();
    const samples = Array.from({ length: slots }, (_, i) => i);
    const after = 3 * slots;
    const cancelled = await new Promise<Heard>((resolve) => {
      const { heard } = follow(engine, request({ maxNewTokens: 190, samples }), (count, started) => {
        if (count !== after) return;
        started.cancel();
        resolve(heard);
      });
    });
    const { completions } = await follow(engine, request({ maxNewTokens: 5, samples })).done;
    expect(completions.map(({ completionIds }) => completionIds.length)).toEqual(samples.map(() => 5));
    expect(cancelled.tokens.length).toBe(after);
    expect(cancelled.completions).toEqual([]);
  });

  test("one sample of a request can be cancelled while the others go on", async () => {
    const engine = await sampler();
    const asked = request({ maxNewTokens: 60, samples: [0, 1] });
    const expected = await alone(engine, asked);
    const both = new Promise<Completion>((resolve, reject) => {
      let seen = 0;
      const started = engine.start(asked, {
        onToken: (sample) => {
          if (sample === 0 && ++seen === 4) started.cancel(0);
          if (seen > 4) reject(new Error("told of a cancelled sample"));
        },
        onFinished: resolve,
        onError: reject,
      });
    });
    expect(await both).toEqual(expected[1]);
  });

  test("new weights change no completion that has begun, and every one that begins after them", async () => {
    const engine = await sampler();
    const asked = request({ maxNewTokens: 80 });
    const before = await alone(engine, asked);
    let later: Promise<Heard> | null = null;
    const { done } = follow(engine, asked, (count) => {
      if (count !== 10) return;
      engine.setWeights(weightsOf(2));
      later = follow(engine, asked).done;
    });
    expect((await done).completions).toEqual(before);
    const after = (await later!).completions;
    expect(after[0]!.completionIds).not.toEqual(before[0]!.completionIds);
    expect(await alone(engine, asked)).toEqual(after);
  });

  test("reports the most likely tokens beside each drawn one, before top-k cuts them", async () => {
    const engine = await sampler();
    const { tokens, completions } = await follow(engine, request({ alternatives: 5, topK: 2 })).done;
    expect(completions[0]!.alternatives).toEqual(tokens.map(({ token }) => token.alternatives));
    for (const { token } of tokens) {
      const logProbs = token.alternatives!.map(({ logProb }) => logProb);
      expect(logProbs.length).toBe(5);
      expect(logProbs).toEqual([...logProbs].sort((a, b) => b - a));
      const rank = token.alternatives!.findIndex(({ id }) => id === token.id);
      expect([0, 1]).toContain(rank);
      expect(logProbs[rank]).toBeCloseTo(token.logProb, 6);
      const cut = Math.log(Math.exp(logProbs[0]!) + Math.exp(logProbs[1]!));
      expect(token.cutLogProb).toBeCloseTo(token.logProb - cut, 5);
    }
  });

  test("a handler that throws ends its own request alone", async () => {
    const engine = await sampler();
    const failing = follow(engine, request({ maxNewTokens: 100 }), (count) => {
      if (count === 3) throw new Error("the client is gone");
    });
    const other = follow(engine, request({ randomKey: "other" }));
    await expect(failing.done).rejects.toThrow("the client is gone");
    expect((await other.done).completions.length).toBe(1);
    expect(failing.heard.tokens.length).toBe(3);
  });

  test("a request under way fails when the sampler is closed", async () => {
    const engine = await createEngine({
      config,
      shape: { slots, promptLength: 4, cacheLength: 100_000 },
      provider: "cpu",
      threads,
    });
    engine.setWeights(weightsOf(1));
    const endless = follow(engine, request({ maxNewTokens: 99_000 }), (count) => {
      if (count === 5) void engine.dispose();
    });
    await expect(endless.done).rejects.toThrow(/closed|ended/);
  });
});

test("weights that could not be taken over are taken over with the next request", async () => {
  const shape = { slots: 4, promptLength: 4, cacheLength: 40 };
  const cache = await createHostCache({ config, shape, provider: "cpu", threads: 1 });
  let failures = 0;
  const useWeights: typeof cache.useWeights = async (weights) => {
    if (failures-- > 0) throw new Error("no memory for them");
    await cache.useWeights(weights);
  };
  const loop = new SlotLoop({ ...cache, useWeights }, config, shape);
  loop.setWeights(weightsOf(1));
  const first = await alone(loop, request());
  failures = 1;
  loop.setWeights(weightsOf(2));
  await expect(alone(loop, request())).rejects.toThrow("no memory for them");
  const second = await alone(loop, request());
  loop.setWeights(weightsOf(2));
  expect([second, second]).toEqual([await alone(loop, request()), expect.not.arrayContaining(first)]);
  await cache.dispose();
});

test("an id outside the vocabulary is refused before it reaches the others", async () => {
  const engine = await open(1, 4);
  const running = follow(engine, request());
  expect(() => engine.start(request({ promptIds: [23] }), { onFinished() {}, onError() {} })).toThrow(
    "prompt: 23 is no id of a vocabulary of 23",
  );
  expect((await running.done).completions.length).toBe(1);
});

test("a live sampler steps by 1, 4 and 16 slots as they are in use, and draws what a full step does", async () => {
  const shape = { slots: 20, promptLength: 100, cacheLength: 140 };
  const [plain, live] = await Promise.all(
    [false, true].map((isLive) => createEngine({ config, shape, provider: "cpu", threads: 1, isLive })),
  );
  opened.push(plain!, live!);
  const steps = await liveSteps({ config, shape, provider: "cpu", threads: 1 });
  expect([1, 2, 4, 5, 16, 17, 20].map((inUse) => steps.slots(inUse))).toEqual([1, 4, 4, 16, 16, 20, 20]);
  await steps.dispose();
  const prompts = [3, 70, 100].map((length) => Array.from({ length }, (_, i) => 1 + ((i * 5) % 20)));
  const draw = async (engine: SamplingEngine): Promise<Completion[]> => {
    const heard: Completion[] = [];
    for (const seed of [1, 2]) {
      engine.setWeights(weightsOf(seed));
      heard.push(...(await alone(engine, request({ promptIds: prompts[0]!, maxNewTokens: 40 }))));
      // Two, 15 and 19 in use at a time, and fewer as they end.
      const all = prompts.map((promptIds, index) =>
        request({
          promptIds,
          randomKey: String(index),
          maxNewTokens: 12 + 9 * index,
          samples: Array.from({ length: index === 1 ? 15 : 2 }, (_, sample) => sample),
        }),
      );
      for (const sameTime of [all.slice(2), all.slice(1, 2), all])
        for (const { completions } of await Promise.all(sameTime.map((asked) => follow(engine, asked).done)))
          heard.push(...completions.sort((a, b) => a.sample - b.sample));
    }
    return heard;
  };
  const [expected, got] = [await draw(plain!), await draw(live!)];
  expect(got.map(({ completionIds }) => completionIds)).toEqual(
    expected.map(({ completionIds }) => completionIds),
  );
  const gaps = got.flatMap(({ rolloutLogProbs }, index) =>
    rolloutLogProbs.map((logProb, token) => Math.abs(logProb - expected[index]!.rolloutLogProbs[token]!)),
  );
  expect(Math.max(...gaps)).toBeLessThan(1e-4); // other kernels round otherwise
});
