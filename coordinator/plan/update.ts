/** What an update takes: the learner's own code, run dry on the largest batch that the run can give it. */
import type { Sample } from "../../core/index.js";
import { adapterShapes, type DecoderConfig, parameterShapes, weightSpecs } from "../../policy/index.js";
import { DryRun, type DryStage, type Provider, type Value, whileDry } from "../../tensor/index.js";
import { createLearner, decoderModel, hasTeacher, isOffloaded, stateShapes } from "../../trainer/index.js";
import type { RunConfig } from "../config.js";
import type { PlanSubject } from "./subject.js";

/** Tokens of SDPO's words around a demonstration or a message. */
const TEMPLATE_TOKENS = 48;
/** Feedback ends after 2,000 characters: about three a token, in code. */
const FEEDBACK_TOKENS = 700;

/** Of the longest completions: a batch of this length has graphs of its own, which stay open beside those of a full one. */
const USUAL_SHARE = 0.7;

export interface UpdateCost {
  /** Of a third update, the second was of shorter completions: by then every state is the learner's own, and every graph is compiled. */
  readonly stage: DryStage;
  /** Graphs that stay open between updates, with what they keep. */
  readonly graphBytes: number;
  /** Bytes of the state by kind: weights, moment1, moment2, momentum, teacher, reference. */
  readonly state: Readonly<Record<string, number>>;
  /** Whether all of the state but the weights stands in host memory, though a GPU computes. */
  readonly isOffloaded: boolean;
  /** Tokens of the batch, without padding. */
  readonly tokens: number;
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Longest prompt that the self-teacher may be shown; 0 without one. */
export function teacherPromptTokens({ objective, rollout }: RunConfig, promptTokens: number): number {
  if (!hasTeacher(objective)) return 0;
  const solution = rollout.samples_per_prompt > 1 ? rollout.max_new_tokens : 0;
  const feedback = objective.feedback === "never" ? 0 : FEEDBACK_TOKENS;
  const shown = objective.feedback === "always" ? solution + feedback : Math.max(solution, feedback);
  return Math.min(objective.max_teacher_tokens, promptTokens + shown + TEMPLATE_TOKENS);
}

/**
 * Every rollout of a step with something to learn.
 * @param share - of the length that a completion can have: what all but the first have
 */
function fullBatch(config: RunConfig, promptTokens: number, share = 1): Sample[] {
  const { rollout } = config;
  const teacher = teacherPromptTokens(config, promptTokens);
  const ids = (length: number): number[] => new Array<number>(length).fill(0);
  const count = rollout.prompts_per_step * rollout.samples_per_prompt;
  return Array.from({ length: count }, (_, index) => {
    const newTokens = Math.ceil((index === 0 ? 1 : share) * rollout.max_new_tokens); // one is long: rows have its length
    return {
      rolloutId: String(index),
      promptIds: ids(promptTokens),
      completionIds: ids(newTokens),
      rolloutLogProbs: ids(newTokens),
      reward: index % 2,
      advantage: index % 2 === 0 ? -0.5 : 0.5,
      teacherPromptIds: teacher > 0 ? ids(teacher) : null,
    };
  });
}

/** Three updates of the learner that the run would have. */
export async function updateCost(
  config: RunConfig,
  { decoder, promptTokens, isShared }: PlanSubject,
  provider: Provider,
): Promise<UpdateCost> {
  const model = decoderModel(decoder);
  const { objective, optimizer, rollout, run } = config;
  const samples = fullBatch(config, promptTokens.train);
  const dry = new DryRun();
  const threads = config.policy.threads;
  return whileDry(dry, async () => {
    const learner = createLearner({
      model,
      weights: zeros(decoder.lora === undefined ? parameterShapes(decoder) : adapterShapes(decoder)),
      ...(decoder.lora === undefined
        ? {}
        : { frozen: givenWeights(dry, decoder, isShared && provider === "cpu") }),
      objective,
      optimizer,
      temperature: rollout.temperature,
      totalSteps: Math.max(run.steps, 2),
      compile: { provider, deterministic: true, ...(threads === undefined ? {} : { threads }) },
    });
    await learner.update({ samples });
    await learner.update({ samples: fullBatch(config, promptTokens.train, USUAL_SHARE) });
    const sampled = learner.weights(); // the sampler holds them until it is given the next
    dry.stage();
    await learner.update({ samples });
    if (Object.keys(sampled).length === 0) throw new Error("a learner without weights");
    const state: Record<string, number> = {};
    const parts = {
      shapes: model.shapes,
      optimizer,
      withTeacher: hasTeacher(objective),
      withReference: "kl_coefficient" in objective && objective.kl_coefficient > 0,
    };
    for (const [key, shape] of Object.entries(stateShapes(parts))) {
      const kind = key.slice(0, key.indexOf("/"));
      state[kind] = (state[kind] ?? 0) + 4 * sizeOf(shape);
    }
    const cost = {
      stage: dry.stage(),
      graphBytes: dry.graphBytes(),
      state,
      isOffloaded: isOffloaded({ optimizer, compile: { provider } }),
      tokens: samples.reduce(
        (sum, { promptIds, completionIds }) => sum + promptIds.length + completionIds.length,
        0,
      ),
    };
    await learner.dispose();
    return cost;
  });
}

/** The policy's own weights as sampler and learner are given them where they are not learned. */
export const givenWeights = (dry: DryRun, decoder: DecoderConfig, inFiles: boolean): Record<string, Value> =>
  Object.fromEntries(
    Object.entries(weightSpecs(decoder))
      .filter(([name]) => name in parameterShapes(decoder))
      .map(([name, spec]) => [name, dry.given(spec, inFiles)]),
  );

/** Pages of zeros are the system's own until they are written. */
const zeros = (shapes: Readonly<Record<string, readonly number[]>>): Record<string, Float32Array> =>
  Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, new Float32Array(sizeOf(shape))]));
