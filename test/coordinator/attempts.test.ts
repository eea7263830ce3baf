import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type AttemptContext, attemptTasks } from "../../coordinator/attempts.js";
import { completionRequests } from "../../coordinator/draw-completions.js";
import { openPolicyHost, type PolicyHost } from "../../coordinator/policy-host.js";
import { runSurroundings } from "../../coordinator/prompts.js";
import { createSampler } from "../../coordinator/sampler.js";
import { Task } from "../../core/index.js";
import { type PolicyFolder, readPolicy } from "../../policy/index.js";
import type { SampledSequence } from "../../rollout/index.js";
import { ObjectiveConfig, OptimizerConfig } from "../../trainer/index.js";
import { createLocalPool, type LocalPool, loadLanguages } from "../../verifiers/index.js";
import { digitTask, writeSmallPolicy } from "./small-policy.js";

const root = mkdtempSync(join(tmpdir(), "attempts-"));
let pool: LocalPool;
let host: PolicyHost;
let policy: PolicyFolder;

beforeAll(async () => {
  pool = await createLocalPool({ languages: loadLanguages(), workers: 1 });
  await writeSmallPolicy(root);
  policy = readPolicy(root);
  host = await openPolicyHost({
    config: policy.config,
    weights: policy.weights,
    seed: 0,
    provider: "cpu",
    threads: 1,
    objective: ObjectiveConfig.parse({ type: "grpo" }),
    optimizer: OptimizerConfig.parse({ type: "adamw" }),
    totalSteps: 1,
    temperature: 1,
  });
});
afterAll(async () => {
  await host.close();
  await pool.close();
  rmSync(root, { recursive: true });
});

const contextWith = (slots: number): AttemptContext => ({
  sampler: createSampler(host, { slots, promptLength: 16, maxNewTokens: 12 }),
  verifier: pool,
  tokenizer: policy.tokenizer,
  language: "lua",
  languagePrompt: () => "",
  systemPrompt: null,
  programIn: "whole",
});
// 3 is <eos> of the quick start's tokenizer.
const options = { seed: 1, temperature: 1, topP: 1, topK: 0, maxNewTokens: 12, stopIds: [3] };
const drawn = [1, 2, 3, 4, 5, 6].map((digit, index) => ({
  task: Task.parse(digitTask(digit)),
  group: 10 + index,
  randomKey: `digit/${digit}`,
}));

test("programs are judged while others are still sampled: verdicts arrive before the last completion", async () => {
  const { sampler, ...context } = contextWith(1);
  let verdicts = 0;
  const waiting: AttemptContext = {
    ...context,
    sampler: {
      sample: async (groups, sampling, onFinished) => {
        let last: SampledSequence | null = null;
        const stats = await sampler.sample(groups, sampling, (sequence) => {
          if (last !== null) onFinished(last);
          last = sequence;
        });
        // For ever, where judging begins when the last completion has come.
        while (verdicts < 1199) await new Promise((go) => setTimeout(go, 5));
        onFinished(last!);
        return stats;
      },
    },
  };
  const { attempts, timing } = await attemptTasks(waiting, drawn, 200, options, 0, () => verdicts++);
  expect(attempts.flat().length).toBe(1200);
  expect(verdicts).toBe(1200);
  expect(timing.judgeWaitSeconds).toBeGreaterThan(0); // of the last alone
});

test("attempts stand in draw order whatever finished first, each with its own program and verdict", async () => {
  const { attempts } = await attemptTasks(contextWith(8), drawn, 4, options, 7);
  attempts.forEach((group, index) => {
    expect(group.map(({ rollout }) => [rollout.id, rollout.taskId, rollout.policyVersion])).toEqual(
      [0, 1, 2, 3].map((sample) => [`${10 + index}.${sample}`, drawn[index]!.task.id, 7]),
    );
    for (const { program, verdict, rollout } of group) {
      expect(program).toBe(rollout.completion);
      expect(verdict.status === "accepted").toBe(program === `print(${index + 1})`);
    }
  });
  const mixed = new Set(attempts.flat().map(({ verdict }) => verdict.reward));
  expect(mixed).toEqual(new Set([0, 1]));
});

test("a task that names its language is asked for with that language's instruction, as `retort eval` asks", async () => {
  const languages = loadLanguages();
  const sections = { policy: { system_prompt: null }, languages: { default: "lua", instruct: true } };
  const surroundings = runSurroundings(sections, languages);
  const asked: string[] = [];
  const context: AttemptContext = {
    ...contextWith(1),
    ...surroundings,
    tokenizer: {
      ...policy.tokenizer,
      promptIds: (messages) => {
        asked.push(messages.map(({ content }) => content).join());
        return [5];
      },
    },
    sampler: { sample: async () => ({ tokens: 0, seconds: 0, decodeSteps: 0 }) },
  };
  const named = { ...drawn[1]!, task: { ...drawn[1]!.task, language: "ocaml" } };
  await attemptTasks(context, [drawn[0]!, named], 1, options, 0);
  const instruction = (name: string) => languages.get(name).prompt;
  expect(asked).toEqual([
    `${drawn[0]!.task.prompt}\n\n${instruction("lua")}`,
    `${named.task.prompt}\n\n${instruction("ocaml")}`,
  ]);
  const assignment = { languages: ["lua"], overridesLanguage: false, samples: 1, systemPrompt: null };
  const requests = completionRequests(
    [drawn[0]!.task, named.task],
    { ...assignment, instruct: true, programIn: "whole" },
    languages,
  );
  expect(requests.map(({ messages }) => messages[0]!.content)).toEqual(asked);
  expect(
    runSurroundings(
      { ...sections, languages: { default: "lua", instruct: false } },
      languages,
    ).languagePrompt(named.task),
  ).toBe("");
});

test("the tokens of an attempt do not depend on what else is sampled", async () => {
  const all = (await attemptTasks(contextWith(8), drawn, 4, options, 0)).attempts[3]!;
  const alone = (await attemptTasks(contextWith(8), [drawn[3]!], 4, options, 0)).attempts[0]!;
  const tokens = (group: typeof all) =>
    group.map(({ rollout }) => [rollout.completionIds, rollout.rolloutLogProbs]);
  expect(tokens(alone)).toEqual(tokens(all));
});
