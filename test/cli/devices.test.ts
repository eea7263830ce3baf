import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DeviceRow } from "../../coordinator/check-devices.js";
import { providerState, softwareVulkanEnvironment } from "../../tensor/index.js";
import { digitTask, writeRandomPolicy, writeRun, writeTasks } from "../coordinator/small-policy.js";
import { isWebgpuHere } from "../tensor/webgpu.js";
import { retort } from "./retort.js";

const hasWebgpu = await isWebgpuHere();

describe.skipIf(!hasWebgpu)("retort devices (skipped without webgpu)", () => {
  test("checks what is there, tells what is missing and how to get it, and exits 0", async () => {
    const { code, stdout } = await retort(["devices", "--json"], { env: softwareVulkanEnvironment() ?? {} });
    const rows = JSON.parse(stdout) as DeviceRow[];
    expect(code).toBe(0);
    expect(rows.map(({ device }) => device)).toEqual(["cpu", "webgpu", "cuda", "tensorflow"]);
    const [cpu, webgpu, ...others] = rows as [DeviceRow, DeviceRow, ...DeviceRow[]];
    expect([cpu.status, webgpu.status, cpu.check!.log_prob_gap]).toEqual(["ok", "ok", 0]);
    // another order of summation than the cpu's: not the same bits, and not another policy
    expect(webgpu.check!.log_prob_gap).toBeGreaterThan(0);
    expect(webgpu.check!.log_prob_gap).toBeLessThan(webgpu.check!.log_prob_bound);
    for (const { check } of [cpu, webgpu]) {
      expect(check!.sampling_tokens_per_s!).toBeGreaterThan(1);
      expect(check!.training_tokens_per_s).toBeGreaterThan(1);
    }
    for (const { status, reason, fix } of others.filter((row) => row.status !== "ok")) {
      expect(status).toBe("missing");
      expect(reason).toMatch(/not downloaded|is installed/);
      expect(fix).toMatch(/npm/);
    }
  });
});

test("a device that is not there ends with exit code 2, why, and what to do", async () => {
  const none = { VK_DRIVER_FILES: "/nowhere.json", VK_ICD_FILENAMES: "/nowhere.json" };
  const ids = join(mkdtempSync(join(tmpdir(), "cli-devices-")), "ids.jsonl");
  writeFileSync(ids, '{"ids":[3,4,5]}\n');
  const policy = ["--policy", "test/vectors/policies/llama", "--ids", ids];
  const { code, stderr } = await retort(["score", ...policy, "--device", "webgpu"], { env: none });
  rmSync(dirname(ids), { recursive: true });
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /--device \(policy\.device of a run\): need one that works here \(cpu.*webgpu: Failed to get a WebGPU adapter.*got "webgpu"/,
  );
  expect(stderr).toMatch(/libvulkan1.*retort devices/);
});

const hasCuda = (await providerState("cuda")).works;

describe.skipIf(hasCuda)("cuda that is not here (skipped where it is) ends with exit code 2 and why", () => {
  const root = mkdtempSync(join(tmpdir(), "cli-no-cuda-"));
  const tasks = join(root, "tasks.jsonl");
  const run = join(root, "run.yaml");
  const policy = join(root, "policy");
  beforeAll(async () => {
    await writeRandomPolicy(policy);
    writeTasks(tasks, [digitTask(1)]);
    writeTasks(join(root, "train.jsonl"), [digitTask(1)]);
    writeTasks(join(root, "heldout.jsonl"), [digitTask(1)]);
    writeRun(root);
    writeFileSync(join(root, "ids.jsonl"), '{"ids":[3,4,5]}\n');
  });
  afterAll(() => rmSync(root, { recursive: true }));

  test.each([
    { command: "train", args: () => [run, "--set", "policy.device=cuda", "--set", `run.dir=${root}/run`] },
    { command: "generate", args: () => ["--policy", policy, "--prompt", "x", "--device", "cuda"] },
    { command: "score", args: () => ["--policy", policy, "--ids", `${root}/ids.jsonl`, "--device", "cuda"] },
    { command: "serve", args: () => ["--policy", policy, "--device", "cuda", "--port", "0"] },
    {
      command: "eval",
      args: () => [
        "--tasks",
        tasks,
        "--language",
        "lua",
        "--policy",
        policy,
        "--out",
        `${root}/out`,
        "--device",
        "cuda",
      ],
    },
  ])("$command", async ({ command, args }) => {
    const { code, stdout, stderr } = await retort([command, ...args()]);
    expect([code, stdout]).toEqual([2, ""]);
    const asked = command === "train" ? "policy.device" : "--device (policy.device of a run)";
    expect(stderr).toContain(`retort: ${asked}: need one that works here (cpu; cuda: `);
    expect(stderr).toMatch(/not downloaded\), got "cuda"\. .*npm_config_onnxruntime_node_install=cuda12/);
  });

  test("plan, for it need not be here: it learns on the card, and webgpu samples there", async () => {
    const { code, stdout } = await retort(["plan", run, "--device", "cuda"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^computes on {2}cuda, samples on webgpu$/m);
  });
});
