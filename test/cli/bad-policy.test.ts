/** What is wrong with a policy folder, met by a person: a real process, exit code 2, and one paragraph that says what to do. */
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type NamedTensor, readSafetensors, replaceFile, writeSafetensors } from "../../checkpoints/index.js";
import { adapterFiles, initialAdapter, readDecoderConfig } from "../../policy/index.js";
import { writeRandomPolicy } from "../coordinator/small-policy.js";
import { type Outcome, retort } from "./retort.js";

const root = mkdtempSync(join(tmpdir(), "bad-policy-"));
const good = join(root, "good");
const rankTwo = { rank: 2, alpha: 4, targets: ["q_proj" as const] };
afterAll(() => rmSync(root, { recursive: true }));
beforeAll(() => writeRandomPolicy(good));

type Harm = (folder: string) => void | Promise<void>;
const json = (file: string): Record<string, unknown> =>
  JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
const changeConfig = (folder: string, change: Record<string, unknown>): void => {
  const file = join(folder, "config.json");
  writeFileSync(file, JSON.stringify({ ...json(file), ...change }));
};
const template = (folder: string, text: string): void =>
  writeFileSync(join(folder, "chat_template.jinja"), text);
const tensorsOf = (folder: string): ReadonlyMap<string, NamedTensor> =>
  readSafetensors(join(folder, "model.safetensors")).tensors;

/** Two files with an index, as large models are published. */
async function shard(folder: string, change: (places: Record<string, string>) => void): Promise<void> {
  const tensors = [...tensorsOf(folder)];
  const half = tensors.length >> 1;
  const places: Record<string, string> = {};
  for (const [file, part] of [
    ["model-00001-of-00002.safetensors", tensors.slice(0, half)],
    ["model-00002-of-00002.safetensors", tensors.slice(half)],
  ] as const) {
    await writeSafetensors(join(folder, file), part);
    for (const [name] of part) places[name] = file;
  }
  change(places);
  rmSync(join(folder, "model.safetensors"));
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map: places }));
}

const second = (places: Record<string, string>): string => Object.keys(places).at(-1)!;

async function makeAdapter(folder: string): Promise<void> {
  const config = { ...readDecoderConfig(good), lora: rankTwo };
  for (const [name, content] of Object.entries(adapterFiles(config, initialAdapter(config, 1), good)))
    await replaceFile(join(folder, name), content);
  rmSync(join(folder, "config.json"));
}

const generate = (policy: string): Promise<Outcome> =>
  retort(["generate", "--policy", policy, "--prompt", "3", "--device", "cpu", "--max-new-tokens", "4"]);

const HARMS: readonly { what: string; harm: Harm; at: string; says: string; fix: string }[] = [
  {
    what: "weights that are cut off",
    harm: (folder) => truncateSync(join(folder, "model.safetensors"), 40_000),
    at: "model.safetensors",
    says: "need a whole safetensors file, but it is truncated: ",
    fix: "It is damaged or of another format: fetch or save it again.",
  },
  {
    what: "a tensor of another shape",
    harm: (folder) => changeConfig(folder, { intermediate_size: 48 }),
    at: "model.safetensors: model.layers.0.mlp.gate_proj.weight",
    says: "need shape [48,32] by config.json, got [64,32].",
    fix: "",
  },
  {
    what: "a missing shard",
    harm: (folder) =>
      shard(folder, () => {}).then(() => rmSync(join(folder, "model-00002-of-00002.safetensors"))),
    at: "model.safetensors.index.json",
    says: "need every file that it names beside it; model-00002-of-00002.safetensors is missing.",
    fix: "The download is incomplete: fetch the model again.",
  },
  {
    what: "an index that names a file outside of the folder",
    harm: (folder) =>
      shard(folder, (places) => {
        places[second(places)] = "../good/model.safetensors";
      }),
    at: "model.safetensors.index.json",
    says: 'need safetensors files beside the index, got "../good/model.safetensors".',
    fix: "",
  },
  {
    what: "NaN in its weights",
    harm: async (folder) => {
      const tensors = tensorsOf(folder);
      tensors.get("model.norm.weight")!.data[3] = Number.NaN;
      await writeSafetensors(join(folder, "model.safetensors"), tensors);
    },
    at: "model.safetensors: model.norm.weight",
    says: "need finite numbers, but element 3 is NaN.",
    fix: "The weights are broken: fetch them again, or take an earlier checkpoint.",
  },
  {
    what: "a tokenizer of another model",
    harm: (folder) => changeConfig(folder, { vocab_size: 100 }),
    at: "tokenizer.json",
    says: "need at most 100 tokens, the vocab_size of config.json, got ",
    fix: "The tokenizer belongs to another model.",
  },
  {
    what: "a tokenizer.json of another format",
    harm: (folder) => writeFileSync(join(folder, "tokenizer.json"), '{"model": {"type": "Other"}}'),
    at: "tokenizer.json",
    says: "need a tokenizer as Hugging Face's tokenizers saves it (",
    fix: "It is damaged or of another format: fetch it again.",
  },
  {
    what: "an architecture that the decoder does not have",
    harm: (folder) => changeConfig(folder, { model_type: "mamba" }),
    at: "config.json: model_type",
    says: 'need one of llama, qwen2, qwen3, got "mamba".',
    fix: "",
  },
  {
    what: "a chat template that throws",
    harm: (folder) => template(folder, "{{ raise_exception('only the assistant speaks') }}"),
    at: "chat template",
    says: "need a template that renders this conversation (only the assistant speaks).",
    fix: "Mend chat_template.jinja",
  },
  {
    what: "a chat template that is cut off",
    harm: (folder) => template(folder, "{% for message in messages %}{{ message.content"),
    at: "chat template",
    says: "need a template that can be read (",
    fix: "Mend chat_template.jinja",
  },
  {
    what: "a chat template that never ends",
    harm: (folder) =>
      template(
        folder,
        "{% for i in range(100000) %}{% for j in range(100000) %}{% set x = i %}{% endfor %}{% endfor %}",
      ),
    at: "chat template",
    says: "need a template that renders this conversation (it had not ended after 2 s).",
    fix: "Mend chat_template.jinja",
  },
  {
    what: "an adapter of another base",
    harm: async (folder) => {
      await makeAdapter(folder);
      const file = join(folder, "adapter_config.json");
      writeFileSync(file, JSON.stringify({ ...json(file), r: 3 }));
    },
    at: "adapter_model.safetensors: base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
    says: "need a tensor of shape [3,32], got [2,32].",
    fix: "The adapter belongs to another policy.",
  },
  {
    what: "an adapter whose base is gone",
    harm: async (folder) => {
      await makeAdapter(folder);
      const file = join(folder, "adapter_config.json");
      writeFileSync(file, JSON.stringify({ ...json(file), base_model_name_or_path: "../gone" }));
    },
    at: "adapter_config.json: base_model_name_or_path",
    says: 'need the folder of the policy that this adapter belongs to, got "../gone".',
    fix: "Put the folder back, or write its new place there.",
  },
];

describe.concurrent("a policy is refused in one paragraph that names file, reason and fix:", () => {
  test.each(HARMS)("$what", async ({ what, harm, at, says, fix }) => {
    const folder = join(root, what.replaceAll(" ", "-"));
    cpSync(good, folder, { recursive: true });
    await harm(folder);
    const { code, stdout, stderr } = await generate(folder);
    expect([code, stdout]).toEqual([2, ""]);
    const place = at === "chat template" ? `${folder}: ${at}` : join(folder, at);
    expect(stderr).toContain(`retort: ${place}: ${says}`);
    expect(stderr).toContain(fix);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});

test.each([
  { device: "cuda", fix: "ONNX Runtime's CUDA libraries come with " },
  { device: "webgpu", fix: "WebGPU needs a GPU with a Vulkan" },
])("a provider that is not there is refused, with what it needs: $device", async ({ device, fix }) => {
  const nothing = { CUDA_VISIBLE_DEVICES: "-1", VK_DRIVER_FILES: "/none", VK_ICD_FILENAMES: "/none" };
  const args = ["generate", "--policy", good, "--prompt", "3", "--device", device];
  const { code, stdout, stderr } = await retort(args, { env: nothing });
  expect([code, stdout]).toEqual([2, ""]);
  // Why it does not work stands between: that is the library's own wording.
  expect(stderr).toContain(
    `retort: --device (policy.device of a run): need one that works here (cpu; ${device}: `,
  );
  expect(stderr).toContain(`, got "${device}". ${fix}`);
  // What another device's driver has to say belongs elsewhere.
  if (device === "cuda") expect(stderr.trimEnd().split("\n")).toHaveLength(1);
});

test("an export does not go where a file is", async () => {
  const out = join(good, "config.json");
  const { code, stderr } = await retort(["export", "--policy", good, "--out", out]);
  expect([code, stderr]).toEqual([
    2,
    `retort: --out: need a new or empty folder, got ${JSON.stringify(out)}.\n`,
  ]);
});

test("an export to a place where no folder can be made ends at once", async () => {
  const { code, stderr } = await retort(["export", "--policy", good, "--out", "/proc/nowhere/new"]);
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /^retort: \/proc\/nowhere\/new: need a place where a folder can be made \(E[A-Z]+: .*\)\. /,
  );
  expect(stderr.trimEnd().split("\n")).toHaveLength(1);
});

test.each([
  { what: "scored", command: "score", options: ["--ids", join(root, "ids.jsonl")] },
  { what: "served", command: "serve", options: ["--port", "0"] },
])("a policy that gives NaN is not $what", async ({ command, options }) => {
  writeFileSync(join(root, "ids.jsonl"), '{"ids":[1,2,3]}\n');
  const { code, stdout, stderr } = await retort([
    ...[command, "--policy", join(root, "NaN-in-its-weights"), "--device", "cpu", ...options],
  ]);
  expect([code, stdout]).toEqual([2, ""]);
  expect(stderr).toContain(
    "model.safetensors: model.norm.weight: need finite numbers, but element 3 is NaN.",
  );
});

test("without harm the same policy answers", async () => {
  const { code, stderr } = await generate(good);
  expect([code, stderr]).toEqual([0, ""]);
});
