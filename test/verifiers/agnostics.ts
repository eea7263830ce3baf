/** Language files with the keys and commands of Agnostics' own five, prompts in our words; they stand in a folder of their own. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

const folder = join(import.meta.dirname, "..", "vectors", "agnostics");

export const AGNOSTICS = {
  folder,
  names: ["fortran", "julia", "lua", "ocaml", "r"],
  text: (name: string): string => readFileSync(join(folder, `${name}.yaml`), "utf8"),
} as const;
