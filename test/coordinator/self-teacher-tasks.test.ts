import { expect, test } from "vitest";
import { EvaluationSection } from "../../coordinator/sections.js";
import { selfTeacherTasks } from "../../coordinator/self-teacher.js";
import { parameterCount, parseDecoderConfig } from "../../policy/index.js";
import { ObjectiveConfig } from "../../trainer/index.js";

const policy = (vocab_size: number) =>
  parseDecoderConfig({
    ...{ model_type: "llama", hidden_size: 512, intermediate_size: 1024, num_hidden_layers: 2 },
    ...{ num_attention_heads: 8, vocab_size, tie_word_embeddings: true },
  });
const [small, large] = [policy(1000), policy(120_000)];

test.each([
  { name: "a small policy", decoder: small, type: "sdpo", evaluation: {}, want: 96 },
  { name: "one of 64M parameters and more", decoder: large, type: "mix", evaluation: {}, want: 8 },
  {
    name: "as many as asked",
    decoder: large,
    type: "sdpo",
    evaluation: { self_teacher_tasks: 40 },
    want: 40,
  },
  {
    name: "none where 0 is asked",
    decoder: small,
    type: "sdpo",
    evaluation: { self_teacher_tasks: 0 },
    want: 0,
  },
  { name: "no self-teacher", decoder: small, type: "grpo", evaluation: { self_teacher_tasks: 40 }, want: 0 },
])("tasks that the self-teacher is measured on: $name", ({ decoder, type, evaluation, want }) => {
  expect(parameterCount(large)).toBeGreaterThan(64e6);
  const objective = ObjectiveConfig.parse({ type });
  expect(selfTeacherTasks({ objective, evaluation: EvaluationSection.parse(evaluation) }, decoder)).toBe(
    want,
  );
});
