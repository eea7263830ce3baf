/** The choices of one request while the engine writes them. */
import { NonFinitePolicyError, type PolicyTokenizer } from "../../policy/index.js";
import type { StartedRequest } from "../../rollout/index.js";
import { RequestError } from "../../verifiers/service/request-error.js";
import { Choice } from "./choice.js";
import type { Engines } from "./engines.js";
import type { PolicyMetrics } from "./metrics.js";
import type { Drawing } from "./request-fields.js";

/** A prompt with the room that its completions have. */
export interface Prompt {
  readonly ids: readonly number[];
  readonly maxNewTokens: number;
}

export interface WritingRequest {
  readonly model: string;
  readonly prompts: readonly Prompt[];
  readonly drawing: Drawing;
  readonly alternatives: number;
}

export interface WritingParts {
  readonly engines: Engines;
  readonly tokenizer: PolicyTokenizer;
  readonly ownStopIds: readonly number[];
  readonly metrics: PolicyMetrics;
}

export class Writing {
  /** [prompts x n], as in the answer. */
  readonly choices: readonly Choice[];
  /** Resolves when every choice has ended. @throws InfrastructureError */
  readonly done: Promise<void>;
  /** Called after every token and at every end. */
  onProgress: (choice: Choice) => void = () => {};
  readonly #started: StartedRequest[] = [];
  #left: number;
  #isOver = false;
  #reject: (error: Error) => void = () => {};

  constructor({ engines, tokenizer, ownStopIds, metrics }: WritingParts, request: WritingRequest) {
    const { drawing, prompts } = request;
    const { n, firstSample } = drawing;
    this.choices = Array.from(
      { length: prompts.length * n },
      (_, index) => new Choice(index, tokenizer, drawing, ownStopIds),
    );
    this.#left = this.choices.length;
    const began = performance.now();
    this.done = new Promise((resolve, reject) => {
      this.#reject = reject;
      const ended = (choice: Choice): void => {
        metrics.wrote(choice.tokens.length, choice.finish!);
        this.#left--;
        this.onProgress(choice);
        if (this.#left === 0) resolve();
      };
      prompts.forEach(({ ids, maxNewTokens }, prompt) => {
        const choiceOf = (sample: number): Choice => this.choices[prompt * n + sample - firstSample]!;
        const group = {
          promptIds: ids,
          samples: Array.from({ length: n }, (_, index) => firstSample + index),
          seed: drawing.seed,
          randomKey: drawing.randomKey,
          temperature: drawing.temperature,
          topP: drawing.topP,
          topK: drawing.topK,
          stopIds: drawing.stopIds,
          maxNewTokens,
          alternatives: request.alternatives,
        };
        const started = engines.start(request.model, group, {
          onToken: (sample, token) => {
            const choice = choiceOf(sample);
            if (this.#isOver || choice.finish !== null) return;
            if (!Number.isFinite(token.logProb))
              throw new NonFinitePolicyError(
                `the policy is not finite: it gives a token the log-probability ${token.logProb}.`,
              );
            if (choice.tokens.length === 0) metrics.firstToken((performance.now() - began) / 1000);
            if (!choice.add(token)) return this.onProgress(choice);
            started.cancel(sample);
            ended(choice);
          },
          onFinished: ({ sample, finishReason }) => {
            const choice = choiceOf(sample);
            if (this.#isOver || choice.finish !== null) return;
            choice.end(finishReason);
            ended(choice);
          },
          onError: (error) => {
            this.cancel();
            reject(error);
          },
        });
        this.#started.push(started);
      });
    });
    this.done.catch(() => {}); // awaited, with its error, by whoever answers
  }

  get tokens(): number {
    return this.choices.reduce((sum, { tokens }) => sum + tokens.length, 0);
  }

  /** Gives up, and says so to whoever waits. */
  abort(): void {
    this.cancel();
    this.#reject(
      new RequestError(503, "stopping", "The request was called off: new weights were loaded.", 1),
    );
  }

  /** Gives up what is not finished. */
  cancel(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const started of this.#started) started.cancel();
  }
}
