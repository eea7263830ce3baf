/**
 * What is trained on are the ids that the sampler drew. A policy that was taught nothing writes ids which its tokenizer never
 * would: "pr" as "p" and "r", special tokens in between. Decoded and encoded again they would be others.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadRunConfig } from "../../coordinator/config.js";
import { closeRun, type OpenRun, openRun } from "../../coordinator/open-run.js";
import { createProgress } from "../../coordinator/progress.js";
import { rolloutRows } from "../../coordinator/rows.js";
import { openRunDirectory } from "../../coordinator/run-directory.js";
import { type StepResult, trainStep } from "../../coordinator/step.js";
import type { Sample } from "../../core/index.js";
import { type PolicyTokenizer, readTokenizer } from "../../policy/index.js";
import type { GroupRequest, SampledSequence } from "../../rollout/index.js";
import { sampleWeights } from "../../trainer/objective-parts.js";
import { packBatch } from "../../trainer/pack-batch.js";
import { digitTask, writeRandomPolicy, writeRun, writeTasks } from "./small-policy.js";

const root = mkdtempSync(join(tmpdir(), "response-ids-"));
const folder = join(root, "run");
const asked: GroupRequest[] = [];
const drawn = new Map<string, SampledSequence>();
let samples: readonly Sample[] = [];
let run: OpenRun;
let result: StepResult;
let tokenizer: PolicyTokenizer;
let rows: { group: number; sample: number; completion: string; tokens: number }[];

/** One step of a run as `retort train` opens it: real sampler, judge and learner; what passes between them is looked at. */
beforeAll(async () => {
  await writeRandomPolicy(join(root, "policy"));
  for (const name of ["train", "heldout"])
    writeTasks(
      join(root, `${name}.jsonl`),
      [1, 2].map((digit) => digitTask(digit)),
    );
  const config = loadRunConfig(writeRun(root, { run: { name: "ids", seed: 5, steps: 1, dir: folder } }), [
    "policy.system_prompt=Be brief.",
  ]);
  tokenizer = readTokenizer(join(root, "policy"));
  const progress = createProgress({ stream: process.stderr, isQuiet: true });
  const directory = await openRunDirectory(folder, { config, resume: false });
  run = await openRun(config, progress, folder);
  const { attempts, policy } = run.step;
  const watched = {
    ...run.step,
    attempts: {
      ...attempts,
      sampler: {
        sample: (...[groups, options, onFinished]: Parameters<typeof attempts.sampler.sample>) => {
          asked.push(...groups);
          return attempts.sampler.sample(groups, options, (sequence) => {
            drawn.set(`${sequence.group}/${sequence.sample}`, sequence);
            onFinished(sequence);
          });
        },
      },
    },
    policy: {
      ...policy,
      update: (request: Parameters<typeof policy.update>[0]) => {
        samples = request.samples;
        return policy.update(request);
      },
    },
  };
  result = await trainStep(watched, 1);
  directory.appendRollouts("step-000001", rolloutRows(result));
  directory.marks();
  directory.close();
  rows = readFileSync(join(folder, "rollouts", "step-000001.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as (typeof rows)[number]);
});
afterAll(async () => {
  await closeRun(run);
  rmSync(root, { recursive: true });
});

const idsOf = ({ group, sample }: { group: number; sample: number }): readonly number[] =>
  drawn.get(`${group}/${sample}`)!.completionIds;

test("prompts go through the chat template, the system prompt before the task's", () => {
  const [user, assistant] = [1, 2]; // <user>, <asst>: the template of this policy
  const prompts = new Set(["1", "2"].map((digit) => tokenizer.encode(digit).join()));
  expect(asked.length).toBe(2);
  for (const { promptIds } of asked) {
    const head = [user, ...tokenizer.encode("Be brief."), user];
    expect(promptIds.slice(0, head.length)).toEqual(head);
    expect(prompts.has(promptIds.slice(head.length, -1).join())).toBe(true);
    expect(promptIds.at(-1)).toBe(assistant);
  }
});

test("decoded and encoded again, what this policy writes would be other ids", () => {
  const changed = [...drawn.values()].filter(
    ({ completionIds }) => tokenizer.encode(tokenizer.decode(completionIds)).join() !== completionIds.join(),
  );
  expect(drawn.size).toBe(8);
  expect(changed.length).toBeGreaterThan(4);
});

test("the update gets the sampler's own ids and log-probs, rollout by rollout", () => {
  expect(samples.length).toBe(8);
  for (const [i, { attempt }] of result.batch.entries()) {
    const { group, sample } = attempt.rollout;
    const { completionIds, rolloutLogProbs } = drawn.get(`${group}/${sample}`)!;
    const { promptIds } = asked.find((request) => request.group === group)!;
    expect(samples[i]).toMatchObject({ promptIds, completionIds, rolloutLogProbs });
  }
});

test("the rollouts file counts the sampler's tokens and holds their text", () => {
  expect(rows.map(({ tokens }) => tokens)).toEqual(rows.map((row) => idsOf(row).length));
  for (const row of rows) expect(row.completion).toBe(tokenizer.decode(idsOf(row)));
  // Special tokens are no text: by its text alone a row could not say how many ids it had.
  expect(rows.some(({ tokens, completion }) => tokenizer.encode(completion).length !== tokens)).toBe(true);
});

test("the packed batch trains those ids, each where it follows its own prompt, for the policy and for its teacher", () => {
  const { objective, optimizer } = run.config;
  const packing = { maxTokens: optimizer.microbatch_tokens, grain: "fine" } as const;
  const packed = packBatch(samples, sampleWeights(samples, objective), packing);
  const targets = packed.flatMap(({ targets, tokens }) => [...targets.subarray(0, tokens)]);
  const sampled = rows.map(idsOf);
  expect(targets.length).toBe(sampled.flat().length);
  for (const ids of sampled) expect(`,${targets.join()},`).toContain(`,${ids.join()},`);
  for (const { ids, positions, targets, tokens, teacher, weights } of packed) {
    expect(teacher).not.toBeNull(); // every attempt failed, with feedback to learn from
    for (let t = 0; t < tokens; t++) {
      expect(ids[positions[t]! + 1]).toBe(targets[t]);
      expect(weights.distill[t]).toBeGreaterThan(0);
      expect(teacher!.ids[teacher!.positions[t]! + 1]).toBe(targets[t]);
    }
    expect([...weights.distill.subarray(tokens)].every((weight) => weight === 0)).toBe(true);
  }
  expect(result.update.trained_tokens).toBe(targets.length);
});
