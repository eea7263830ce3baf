/** What every judge gets: a program that adds two numbers, and its tests. */
import type { Task } from "../../core/index.js";
import type { Language } from "../../verifiers/index.js";

/** One program in a language, with inputs and the outputs they must give. */
export interface Workload {
  readonly language: Language;
  readonly program: string;
  readonly tests: readonly { readonly input: string; readonly output: string }[];
}

const PROGRAMS: Readonly<Record<string, string>> = {
  lua: 'local a, b = io.read("n", "n")\nprint(a + b)\n',
  python: "a, b = map(int, input().split())\nprint(a + b)\n",
  javascript:
    'const [a, b] = require("fs").readFileSync(0, "utf8").split(" ").map(Number);\nconsole.log(a + b);\n',
  c: '#include <stdio.h>\nint main(void) { int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b); return 0; }\n',
};
export const BENCH_LANGUAGES = Object.keys(PROGRAMS);

export function workload(language: Language, tests: number): Workload {
  return {
    language,
    program: PROGRAMS[language.name]!,
    tests: Array.from({ length: tests }, (_, i) => ({ input: `${i} ${i + 1}\n`, output: `${2 * i + 1}\n` })),
  };
}

export const asTask = ({ language, tests }: Workload): Task => ({
  id: `sum in ${language.name}`,
  prompt: "",
  tests: tests.map((test) => ({ ...test, visible: true })),
  comparator: "tokens",
  limits: {},
});
