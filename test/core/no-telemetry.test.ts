import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";

/** Opens a session in a worker thread, where the samplers of training runs open theirs. */
const PROGRAM = `
  import { Worker } from "node:worker_threads";
  await import(process.argv[1]);
  const source = \`
    import ort from "onnxruntime-node";
    await ort.InferenceSession.create(new Uint8Array(8)).catch((error) => console.log(String(error)));\`;
  new Worker(source, { eval: true });
`;

/** What ONNX Runtime leaves in a home folder when a program that has imported `module` opens a session. */
function opensSession(module: string): { output: string; leavesId: boolean } {
  const home = mkdtempSync(join(tmpdir(), "retort-home-"));
  try {
    const { CI: _, ORT_DISABLE_TELEMETRY: __, XDG_CACHE_HOME: ___, ...environment } = process.env;
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", PROGRAM, module], {
      cwd: packageRoot,
      // Nothing goes out while this runs: the proxy is not there.
      env: { ...environment, HOME: home, https_proxy: "http://127.0.0.1:9" },
      encoding: "utf8",
    });
    return { output: stdout + stderr, leavesId: existsSync(join(home, ".cache", "Microsoft")) };
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

test("no session of ours makes ONNX Runtime name the machine and send what it does to its maker", () => {
  const ours = opensSession(join(packageRoot, "dist", "core", "index.js"));
  expect(ours.output).toContain("protobuf parsing failed"); // ONNX Runtime was there, and read the model
  expect(ours.leavesId).toBe(false);
});
