/**
 * `npm run bench:gpu`: makes a folder of two files that measures on a Linux machine with a GPU and PyTorch, but without Node,
 * npm or a network: `run.py` and the archive that it unpacks.
 */
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { builtModule, packageRoot } from "../../core/index.js";

/** What one call may carry to the GPU machine that this was made for. */
const MOST_BYTES = 64 * 2 ** 20;
const VULKAN = ["/usr/lib/x86_64-linux-gnu/libvulkan.so.1", "/usr/lib64/libvulkan.so.1"];

const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

/** Runs a module of ours and lists every script that Node loaded, worker threads included. */
function loadedScripts(args: readonly string[], commands: readonly object[]): string[] {
  const folder = mkdtempSync(join(tmpdir(), "retort-loaded-"));
  try {
    const done = spawnSync(process.execPath, args, {
      env: { ...process.env, NODE_V8_COVERAGE: folder },
      input: commands.map((command) => `${JSON.stringify(command)}\n`).join(""),
      stdio: ["pipe", "ignore", "inherit"],
    });
    if (done.status !== 0) throw new Error(`${args[0]} failed, see above`);
    const urls = readdirSync(folder).flatMap((name) => {
      const { result } = JSON.parse(readFileSync(join(folder, name), "utf8")) as {
        result: { url: string }[];
      };
      return result.map(({ url }) => url);
    });
    return [...new Set(urls)].filter((url) => url.startsWith("file:")).map((url) => fileURLToPath(url));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Files of npm packages that the benchmark loads, found by running it on a tiny policy; each package's package.json too. */
function npmFiles(modules: string): string[] {
  const policy = mkdtempSync(join(tmpdir(), "retort-tiny-"));
  try {
    const scripts = [
      ...loadedScripts([builtModule("bench/gpu/main.js"), "--help"], []),
      ...loadedScripts([builtModule("bench/gpu/tiny-policy.js"), policy], []),
      ...loadedScripts([builtModule("bench/retort.js")], tinyWork(policy)),
    ];
    const own = scripts.map((file) => realpathSync(file)).filter((file) => file.startsWith(modules + sep));
    return [...new Set(own.flatMap((file) => [file, ...packageFiles(file, modules)]))];
  } finally {
    rmSync(policy, { recursive: true, force: true });
  }
}

/** A training step and some sampled tokens. */
const tinyWork = (folder: string): object[] => [
  { op: "open", folder, device: "cpu", adamw: { lr: 1e-3, betas: [0.9, 0.99], weight_decay: 0 } },
  { op: "configure", threads: 2 },
  { op: "train", ids: [[1, 2, 3, 4]], steps: 1 },
  { op: "sample", prompts: [[1, 2]], samples: 8, new_tokens: 2 },
];

/** The package.json files that Node reads on its way to a file. */
function packageFiles(file: string, modules: string): string[] {
  const found: string[] = [];
  for (let folder = dirname(file); folder.length > modules.length; folder = dirname(folder))
    if (existsSync(join(folder, "package.json"))) found.push(join(folder, "package.json"));
  return found;
}

/** onnxruntime-node's libraries for Linux on x64: ONNX Runtime with Dawn inside; CUDA's provider where it was downloaded. */
function runtimeFiles(): string[] {
  const home = dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json"));
  const folder = join(realpathSync(home), "bin", "napi-v6", "linux", "x64");
  return readdirSync(folder).map((name) => join(folder, name));
}

/** Our compiled modules and the two files that they read beside them. */
function ownFiles(): string[] {
  const built = readdirSync(join(packageRoot, "dist"), { recursive: true, encoding: "utf8" });
  const scripts = built.filter((name) => name.endsWith(".js")).map((name) => join("dist", name));
  const python = readdirSync(join(packageRoot, "bench", "pytorch")).filter((name) => name.endsWith(".py"));
  return [
    ...scripts,
    "package.json",
    join("dist", ".build-stamp"),
    join("tensor", "onnx.proto"),
    ...python.map((name) => join("bench", "pytorch", name)),
  ];
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}

/** @throws Error where the bundle cannot be made here */
function makeBundle(target: string): number {
  if (process.platform !== "linux" || process.arch !== "x64")
    throw new Error(
      `the bundle holds this machine's Node, so it is made on Linux x64, not ${process.platform}`,
    );
  const stage = mkdtempSync(join(tmpdir(), "retort-bundle-"));
  try {
    const modules = realpathSync(join(packageRoot, "node_modules"));
    say("Looking which files of npm packages are needed.");
    for (const file of [...npmFiles(modules), ...runtimeFiles()])
      copy(file, join(stage, "node_modules", relative(modules, file)));
    for (const file of ownFiles()) copy(join(packageRoot, file), join(stage, file));
    copy(process.execPath, join(stage, "node"));
    const vulkan = VULKAN.find((file) => existsSync(file));
    if (vulkan === undefined) say("libvulkan.so.1 is not here; the GPU machine must have it.");
    else copy(realpathSync(vulkan), join(stage, "lib", "libvulkan.so.1"));
    say("Packing.");
    rmSync(target, { recursive: true, force: true });
    mkdirSync(target, { recursive: true });
    const archive = join(target, "bundle.tar.gz");
    const packed = spawnSync("tar", ["-czf", archive, "-C", stage, "."], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    if (packed.status !== 0) throw new Error("tar failed, see above");
    copyFileSync(join(packageRoot, "bench", "gpu", "run.py"), join(target, "run.py"));
    return statSync(archive).size;
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

const target = join(packageRoot, ".cache", "bench-gpu");
const bytes = makeBundle(target);
const size = `${(bytes / 2 ** 20).toFixed(1)} MiB`;
if (bytes > MOST_BYTES) {
  say(`${target} has ${size}, more than ${MOST_BYTES / 2 ** 20} MiB`);
  process.exitCode = 1;
}
process.stdout.write(
  `${target} (${size}). Take it to the GPU machine and run there:\n  python3 run.py --quick\n  python3 run.py\n`,
);
