/** The policy's thread, and what is heard of it when it dies. */
import workerThreads from "node:worker_threads";
import { afterEach, expect, test } from "vitest";
import { openSamplingHost, type SamplingHost } from "../../coordinator/policy-host.js";
import { InfrastructureError } from "../../core/index.js";
import { initialWeights, parseDecoderConfig } from "../../policy/index.js";
import type { CompletionRequest } from "../../rollout/index.js";

const config = parseDecoderConfig({
  model_type: "llama",
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 23,
});
const shape = { slots: 2, promptLength: 4, cacheLength: 16 };
const request: CompletionRequest = {
  ...{ randomKey: "k", promptIds: [1, 2], samples: [0], seed: 0, temperature: 1, topP: 1, topK: 0 },
  ...{ maxNewTokens: 4, stopIds: [] },
};

const threads: workerThreads.Worker[] = [];
const { Worker } = workerThreads;
afterEach(() => {
  workerThreads.Worker = Worker;
});
async function openHost(): Promise<SamplingHost> {
  workerThreads.Worker = class extends Worker {
    constructor(...given: ConstructorParameters<typeof Worker>) {
      super(...given);
      threads.push(this);
    }
  };
  return openSamplingHost({ config, weights: initialWeights(config, 0), provider: "cpu", threads: 1 });
}

test("a thread that dies between two calls is told to whoever asks next, and does not end the process", async () => {
  const host = await openHost();
  const ask = (): Promise<unknown> =>
    new Promise((resolve) => {
      try {
        host.start(shape, request, { onFinished: resolve, onError: resolve });
      } catch (error) {
        resolve(error);
      }
    });
  expect(await ask()).toMatchObject({ finishReason: "length" });
  threads[0]!.emit("error", new Error("out of memory")); // as Node tells of a heap that is full
  const failure = new InfrastructureError("the policy's thread failed: Error: out of memory");
  expect(await ask()).toEqual(failure);
  await expect(host.setWeights(initialWeights(config, 1))).rejects.toEqual(failure);
  await host.close();
});
