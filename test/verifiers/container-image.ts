/** A container image for tests, made of this machine's own Lua, shell and a few tools: nothing is pulled from anywhere. */
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const TOOLS = ["/usr/bin/lua5.4", "/usr/bin/luac5.4", "/bin/sh", "/bin/cat", "/bin/ls", "/bin/sleep"];

/** Shared libraries of a program, the loader among them. */
const librariesOf = (tool: string): string[] =>
  [...execFileSync("ldd", [tool], { encoding: "utf8" }).matchAll(/(\/\S+\.so\S*)/g)].map(([path]) => path);

/** @returns the image's name; GREETING=hello stands in its environment */
export function importTestImage(tool: "podman" | "docker", env: NodeJS.ProcessEnv): string {
  const root = mkdtempSync(join(tmpdir(), "retort-image-"));
  try {
    chmodSync(root, 0o755);
    for (const folder of ["tmp", "proc", "dev", "etc", "w"]) mkdirSync(join(root, folder));
    for (const file of new Set(TOOLS.flatMap((path) => [path, ...librariesOf(path)]))) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      copyFileSync(realpathSync(file), join(root, file));
    }
    const archive = execFileSync("tar", ["-C", root, "-c", "."], { maxBuffer: 256 * 1024 * 1024 });
    const name = "localhost/retort-test:lua";
    const options = ["--change", "ENV GREETING=hello", "--change", "ENV PATH=/usr/bin:/bin", "-", name];
    execFileSync(tool, ["import", ...options], { input: archive, env, stdio: ["pipe", "ignore", "pipe"] });
    return name;
  } finally {
    rmSync(root, { recursive: true });
  }
}
