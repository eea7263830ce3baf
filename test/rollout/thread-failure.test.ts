import { expect, test } from "vitest";
import { ConfigError, InfrastructureError } from "../../core/index.js";
import { NonFinitePolicyError } from "../../policy/index.js";
import { answerRequests, type CompletionRequest, createRemoteRequests } from "../../rollout/index.js";

const request: CompletionRequest = {
  ...{ randomKey: "k", promptIds: [1], samples: [0], seed: 0, temperature: 1, topP: 1, topK: 0 },
  ...{ maxNewTokens: 1, stopIds: [] },
};

/** What a request hears when the sampler in the other thread fails so; messages are cloned as between threads. */
const heard = (error: unknown): Promise<Error> =>
  new Promise((resolve) => {
    const engine = {
      decodeSteps: () => 0,
      start: () => {
        throw error;
      },
    };
    const answer = answerRequests(engine, (event) => remote.onEvent(structuredClone(event)));
    const remote = createRemoteRequests((call) => answer(structuredClone(call)));
    remote.start(request, { onFinished() {}, onError: resolve });
  });

test.each([
  new ConfigError({ at: "policy.device", got: "cuda", need: "one that works here", fix: "Set cpu." }),
  new NonFinitePolicyError("it gives a token the log-probability NaN."),
  new InfrastructureError("a sampling thread failed: it ended with 1"),
])("another thread's error arrives as what it was, in its own words: $name", async (error) => {
  const got = await heard(error);
  expect(got).toBeInstanceOf(error.constructor);
  expect([got.name, got.message]).toEqual([error.name, error.message]);
  if (error instanceof ConfigError) expect((got as ConfigError).at).toBe("policy.device");
});

test("what nobody foresaw is an infrastructure failure that quotes it", async () => {
  expect(await heard(new TypeError("x is undefined"))).toEqual(
    new InfrastructureError("a sampling thread failed: TypeError: x is undefined"),
  );
});
