/** What a run computes on, recorded beside it: equal bits are promised for equal machines and tools only. */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { arch, cpus, platform } from "node:os";
import { join } from "node:path";
import { replaceFile } from "../checkpoints/index.js";
import { packageRoot } from "../core/index.js";
import type { Provider } from "../tensor/index.js";
import type { Language } from "../verifiers/index.js";
import type { OpenedPool } from "./open-pool.js";

/** Plain data of `environment.json`, by name. */
export type Environment = Readonly<Record<string, string | number>>;

const FILE = "environment.json";

const versionOf = (packageJson: string): string =>
  (JSON.parse(readFileSync(packageJson, "utf8")) as { version: string }).version;

/** Instruction sets of the CPU: kernels are chosen by them. "" where the system does not say. */
function cpuFlags(): string {
  if (!existsSync("/proc/cpuinfo")) return "";
  const line = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"));
  return line?.[1]?.split(" ").sort().join(" ") ?? "";
}

/** The first line that a language's probe prints, here or on the workers that offer it. */
async function toolVersion(verifier: OpenedPool, language: Language): Promise<string> {
  if (verifier.isolation === null) return (await verifier.toolVersion(language)) ?? "missing";
  if (language.probe === undefined) return "unknown";
  try {
    const run = { language, program: "", inputs: [""], execute: language.probe };
    const [test] = (await verifier.run(run)).tests;
    return (test?.stdout.trim() || test?.stderr.trim() || "unknown").split("\n")[0]!;
  } catch {
    return "missing"; // its programs will be infrastructure failures, each with its reason
  }
}

/** What this machine is, as far as a run's numbers depend on it. */
export async function currentEnvironment(run: {
  readonly provider: Provider;
  /** Where it is not the same. */
  readonly sampler: Provider | null;
  readonly threads: number;
  readonly verifier: OpenedPool;
  readonly languages: readonly Language[];
}): Promise<Environment> {
  const require = createRequire(import.meta.url);
  const versions = await Promise.all(
    run.languages.map(
      async (language) => [language.name, await toolVersion(run.verifier, language)] as const,
    ),
  );
  return {
    retort: versionOf(join(packageRoot, "package.json")),
    node: process.version,
    onnxruntime: versionOf(require.resolve("onnxruntime-node/package.json")),
    system: `${platform()} ${arch()}`,
    provider: run.provider,
    ...(run.sampler === null || run.sampler === run.provider ? {} : { sampler: run.sampler }),
    threads: run.threads,
    cpu: cpus()[0]?.model ?? "",
    cpu_flags: cpuFlags(),
    ...Object.fromEntries(versions.map(([name, version]) => [`language ${name}`, version])),
  };
}

/**
 * Writes `environment.json` of a new run; of a run that goes on elsewhere it says what has changed.
 * @returns a sentence for a person, or null where nothing changed
 */
export async function recordEnvironment(folder: string, environment: Environment): Promise<string | null> {
  const file = join(folder, FILE);
  if (!existsSync(file)) {
    await replaceFile(file, `${JSON.stringify(environment, null, 2)}\n`);
    return null;
  }
  const before = JSON.parse(readFileSync(file, "utf8")) as Environment;
  const names = [...new Set([...Object.keys(before), ...Object.keys(environment)])];
  const changed = names.filter((name) => before[name] !== environment[name]);
  if (changed.length === 0) return null;
  const shown = changed.map((name) =>
    name === "cpu_flags"
      ? name
      : `${name} was ${before[name] ?? "absent"}, is ${environment[name] ?? "absent"}`,
  );
  return `This is not what the run began on: ${shown.join("; ")}. Its numbers may differ from an uninterrupted run's.`;
}
