/** Run by run.py on a machine with a GPU: training and sampling, Retort against eager PyTorch in float32 there. */
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../../core/index.js";
import { availableProviders } from "../../tensor/index.js";
import { selectedCells } from "../cells.js";
import type { Limits } from "../contestant.js";
import { machineName } from "../machine.js";
import { readOptions } from "../options.js";
import { type RunResult, runCells } from "../run.js";
import { pytorch, retort } from "../sides.js";
import { shareOfLimits, tableOf } from "../summary.js";

const HELP = `python3 run.py [options]
  --only train,sample         tables (default: both)
  --policies 1M,10M,100M      sizes (default: all three)
  --quick                     one cell of each size and table, two rounds
  --long                      4096 tokens at 10M and 100M too; 64 sequences against llama.cpp
  --rounds N                  turns of each side in each cell (default 3)
  --fresh                     measure anew what a run that broke has left
  --json                      the numbers as JSON
  --device webgpu             where Retort computes: webgpu or cuda (default: all that work here)
  --pytorch-device cuda       where PyTorch computes
`;

const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

/** MiB in use on the card; null where nvidia-smi is not. */
function deviceMib(): number | null {
  const asked = ["--query-gpu=memory.used", "--format=csv,noheader,nounits"];
  const { status, stdout } = spawnSync("nvidia-smi", asked, { encoding: "utf8" });
  return status === 0 ? Number(stdout.split("\n")[0]) : null;
}

const options = readOptions(HELP, ["train", "sample"], ["python", "device", "pytorch-device"]);
const text = (name: string, usual: string): string => String(options.extra[name] ?? usual);
const python = text("python", "python3");
const peerDevice = text("pytorch-device", "cuda");
const working = await availableProviders();
const devices = options.extra.device
  ? [text("device", "")]
  : working.filter((name) => /webgpu|cuda/.test(name));
const missing = devices.find((name) => !working.some((provider) => provider === name));
if (devices.length === 0 || missing !== undefined) {
  say(
    `${missing ?? "No GPU"} does not work here (${working.join(", ")} do). Is the Vulkan driver found (VK_DRIVER_FILES)?`,
  );
  process.exit(1);
}

const peer = pytorch(peerDevice, python);
const asked = peer.start();
await asked.ask("open_device", { device: peerDevice });
const limits: Limits = await asked.ask("limits", {});
await asked.close();
say(`${limits.name}: ${limits.tflops.toFixed(1)} TFLOP/s, ${limits.gb_per_s.toFixed(0)} GB/s`);

const cells = selectedCells(options);
/** On cuda Retort trains, and webgpu samples for it. */
const measuredOn = (device: string) =>
  device === "cuda" ? cells.filter(({ table }) => table === "train") : cells;
const { rounds } = options;
const build = readFileSync(join(packageRoot, "dist", ".build-stamp"), "utf8");
const machine = `${limits.name}; ${machineName()}`;
const found: Record<string, RunResult> = {};
for (const device of devices) {
  const keptFile = join(tmpdir(), `retort-bench-${device}.json`);
  if (options.isFresh) rmSync(keptFile, { force: true });
  say(`Retort on ${device}`);
  found[device] = await runCells({
    cells: measuredOn(device),
    sidesOf: () => [retort(device), peer],
    rounds,
    keptFile,
    identity: JSON.stringify({ machine, build, rounds, device, peerDevice }),
    deviceMib,
    say,
  });
}
if (options.isJson) {
  process.stdout.write(`${JSON.stringify({ machine, limits, rounds, devices: found }, null, 2)}\n`);
} else {
  process.stdout.write(
    `${machine}; ${rounds} rounds; median ratio (least-most)\n` +
      `The card, by PyTorch: ${limits.tflops.toFixed(1)} TFLOP/s in float32 (${limits.tf32_tflops.toFixed(1)} in TF32), ` +
      `copying ${limits.gb_per_s.toFixed(0)} GB/s\n`,
  );
  for (const [device, { cells: results, leftOut }] of Object.entries(found)) {
    for (const table of options.tables) {
      const own = measuredOn(device).filter((cell) => cell.table === table);
      if (own.length === 0) continue;
      const lines = [...tableOf(own, results, leftOut), "", ...shareOfLimits(own, results, limits)];
      process.stdout.write(
        `\n${table}: Retort on ${device}, PyTorch on ${peerDevice}\n\n${lines.join("\n")}\n`,
      );
    }
  }
}
