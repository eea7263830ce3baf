import { describe, expect, test } from "vitest";
import type { SamplingOptions } from "../../rollout/index.js";
import { NoTokenIdsError, PROTOCOLS, UnusableAnswerError } from "../../rollout/openai/protocol.js";

const wanted = { group: 3, randomKey: "add/0", promptIds: [5, 6, 7], sample: 2 };
const options: SamplingOptions = {
  seed: 9,
  temperature: 0.5,
  topP: 1,
  topK: 0,
  maxNewTokens: 4,
  stopIds: [3],
};

describe("completions", () => {
  const { body, read } = PROTOCOLS.completions;
  const answer = (choice: object, more: object = {}): string =>
    JSON.stringify({ choices: [{ index: 0, text: "ab", ...choice }], ...more });
  const good = {
    finish_reason: "stop",
    token_ids: [8, 9, 3],
    logprobs: { tokens: ["a", "b", ""], token_logprobs: [-0.5, -1, -0.25] },
  };

  test("asks for ids by ids, and says everything that a model's own defaults would bend", () => {
    const asked = body("policy", wanted, options, false);
    expect(asked).toEqual({
      model: "policy",
      prompt: [5, 6, 7],
      n: 1,
      max_tokens: 4,
      temperature: 0.5,
      top_p: 1,
      top_k: -1,
      min_p: 0,
      repetition_penalty: 1,
      presence_penalty: 0,
      frequency_penalty: 0,
      seed: expect.any(Number) as number,
      stop_token_ids: [3],
      logprobs: 1,
      return_token_ids: true,
    });
    const seedOf = (sample: number): number =>
      (body("policy", { ...wanted, sample }, options, false) as { seed: number }).seed;
    expect(new Set([0, 1, 2, 3].map(seedOf)).size).toBe(4);
    expect(seedOf(2)).toBe((asked as { seed: number }).seed);
  });

  test("a server of ours is told the stream of random numbers that the local sampler would use", () => {
    expect(body("policy", wanted, options, true)).toMatchObject({
      seed: 9,
      random_key: "add/0",
      sample_index: 2,
    });
  });

  test("reads ids, log-probabilities, the end and the version of the weights", () => {
    expect(read(answer(good, { metadata: { weight_version: "v7" } }))).toEqual({
      ids: [8, 9, 3],
      logProbs: [-0.5, -1, -0.25],
      finishReason: "stop",
      weightVersion: "v7",
    });
    expect(read(answer(good)).weightVersion).toBeNull();
  });

  test.each([
    { what: "no ids", choice: { ...good, token_ids: undefined } },
    { what: "ids that are null", choice: { ...good, token_ids: null } },
    { what: "no log-probabilities", choice: { ...good, logprobs: null } },
  ])("$what: asking again would not help", ({ choice }) => {
    expect(() => read(answer(choice))).toThrow(NoTokenIdsError);
  });

  test.each([
    { what: "a page", text: "<html>502</html>" },
    { what: "half an answer", text: answer(good).slice(0, 40) },
    { what: "no choice", text: '{"choices":[]}' },
    { what: "a completion that was broken off", text: answer({ ...good, finish_reason: "abort" }) },
    { what: "ids without their log-probabilities", text: answer({ ...good, token_ids: [8, 9, 3, 3] }) },
    { what: "no token", text: answer({ ...good, token_ids: [], logprobs: { token_logprobs: [] } }) },
    {
      what: "a log-probability that is none",
      text: answer({ ...good, logprobs: { token_logprobs: [-0.5, null, -0.25] } }),
    },
  ])("$what is asked for again", ({ text }) => {
    expect(() => read(text)).toThrow(UnusableAnswerError);
  });
});

describe("generate", () => {
  const { body, read } = PROTOCOLS.generate;

  test("asks as SGLang's own API wants it", () => {
    expect(body("policy", wanted, { ...options, topK: 20 }, false)).toEqual({
      model: "policy",
      input_ids: [5, 6, 7],
      sampling_params: {
        max_new_tokens: 4,
        temperature: 0.5,
        top_p: 1,
        top_k: 20,
        min_p: 0,
        repetition_penalty: 1,
        presence_penalty: 0,
        frequency_penalty: 0,
        stop_token_ids: [3],
        sampling_seed: expect.any(Number) as number,
      },
      return_logprob: true,
      stream: false,
    });
  });

  test("reads the ids out of the log-probabilities", () => {
    const meta = {
      finish_reason: { type: "length", length: 4 },
      output_token_logprobs: [
        [-0.5, 8, null],
        [-1, 9, "b"],
      ],
      weight_version: "default",
    };
    expect(read(JSON.stringify({ text: "ab", meta_info: meta }))).toEqual({
      ids: [8, 9],
      logProbs: [-0.5, -1],
      finishReason: "length",
      weightVersion: "default",
    });
    const bare = { ...meta, output_token_logprobs: undefined };
    expect(() => read(JSON.stringify({ meta_info: bare }))).toThrow(NoTokenIdsError);
    const aborted = { ...meta, finish_reason: { type: "abort" } };
    expect(() => read(JSON.stringify({ meta_info: aborted }))).toThrow(UnusableAnswerError);
  });
});
