/**
 * isolate (https://github.com/ioi/isolate), the sandbox of the International Olympiad in Informatics: measured where a
 * user has installed it. A box for each program, one `isolate --run` for the compiler and for each test.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runCommand, words } from "./command.js";
import { type Contestant, runTests } from "./contestants.js";

/** Its version; null where it is not installed or does not work. */
export async function isolateVersion(): Promise<string | null> {
  try {
    const said = await runCommand(["isolate", "--version"]);
    await runCommand(["isolate", "--box-id=0", "--init"]);
    await runCommand(["isolate", "--box-id=0", "--cleanup"]);
    return /\d+(?:\.\d+)+/.exec(said)?.[0] ?? said.trim();
  } catch {
    return null;
  }
}

/** Limits like our defaults, as far as it has them without control groups: address space, not memory of the tree. */
const LIMITS = ["--silent", "--time=10", "--wall-time=10", "--processes=64", "--fsize=65536"];
/** V8 reserves far more address space than it uses. */
const NO_ADDRESS_LIMIT = new Set(["javascript"]);

export const isolate: Contestant = {
  name: "isolate",
  open: async (workers) => ({
    loops: workers,
    async judge(work, loop) {
      const { language, program } = work;
      const box = [`--box-id=${loop}`];
      const root = (await runCommand(["isolate", ...box, "--init"])).trim();
      const memory = NO_ADDRESS_LIMIT.has(language.name) ? [] : ["--mem=524288"];
      const env = Object.entries({ PATH: "/usr/bin:/bin", ...language.env }).map(
        ([name, value]) => `--env=${name}=${value}`,
      );
      const run = ["isolate", ...box, ...LIMITS, ...memory, ...env];
      try {
        writeFileSync(join(root, "box", language.filename), program);
        if (language.compile !== undefined) {
          const [tool, ...rest] = words(language.compile);
          await runCommand([...run, "--run", "--", `/usr/bin/${tool}`, ...rest]);
        }
        await runTests(work, async ([tool, ...rest], input) => {
          writeFileSync(join(root, "box", "input.txt"), input);
          const command = tool!.includes("/") ? tool! : `/usr/bin/${tool}`;
          const files = ["--stdin=input.txt", "--stdout=output.txt"];
          await runCommand([...run, ...files, "--run", "--", command, ...rest]);
          return readFileSync(join(root, "box", "output.txt"), "utf8");
        });
      } finally {
        await runCommand(["isolate", ...box, "--cleanup"]);
      }
    },
    close: async () => {},
  }),
};
