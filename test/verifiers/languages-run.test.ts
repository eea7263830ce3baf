/**
 * Every shipped language, run for real: its self-test, and an example of each way to fail with the feedback recorded for
 * it. The light set, which `npm test` installs, must be here; the rest runs where it happens to be.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Task } from "../../core/index.js";
import {
  checkLanguages,
  createLocalPool,
  EXAMPLE_KINDS,
  judgeTrial,
  type Language,
  type LanguageCheck,
  type LocalPool,
  loadLanguages,
  readExamples,
  tryLanguage,
} from "../../verifiers/index.js";

/** Debian packages: scripts/system-packages.mjs. */
const LIGHT = [
  "awk",
  "bash",
  "c",
  "cpp",
  "fortran",
  "javascript",
  "lua",
  "ocaml",
  "perl",
  "php",
  "python",
  "r",
  "ruby",
  "scheme",
  "sql",
  "tcl",
  "typescript",
];

const languages = loadLanguages();
let pool: LocalPool;
beforeAll(async () => {
  pool = await createLocalPool({ languages, workers: 4 });
});
afterAll(() => pool.close());

const howMany = (language: Language): number =>
  EXAMPLE_KINDS.filter((kind) => readExamples(language)?.[kind].program !== undefined).length;

describe.concurrent("the light set", () => {
  test("has at least sixteen languages, Agnostics' five without Julia among them", () => {
    expect(LIGHT.length).toBeGreaterThanOrEqual(16);
    expect(LIGHT).toEqual(expect.arrayContaining(["lua", "r", "ocaml", "fortran"]));
  });

  test.each(LIGHT)("%s: self-test and four examples end as their files say", async (name) => {
    const language = languages.get(name);
    const trial = await tryLanguage(pool, language);
    expect(judgeTrial(language, trial)).toMatchObject({ name, status: "ok" });
    expect(trial.version).toMatch(/\d/);
    expect(trial.examples).toHaveLength(howMany(language));
    expect(howMany(language)).toBeGreaterThanOrEqual(3);
    for (const { wanted, got } of trial.examples) expect(got.status).toBe(wanted.status);
    // The wording is the recorded version's; another version is told in a note.
    if (trial.version === trial.recorded?.version)
      for (const { wanted, got } of trial.examples) expect(got.feedback).toBe(wanted.feedback);
  });
});

describe.concurrent("programs as people write them", () => {
  test.for([
    {
      language: "typescript",
      what: "readline by its types",
      program: `import { createInterface, Interface } from "readline";\nconst lines: Interface = createInterface({ input: process.stdin });\nlines.on("line", (line: string) => console.log(line));`,
    },
    {
      language: "typescript",
      what: "an async main",
      program: `import * as readline from "node:readline";\nasync function main(): Promise<void> {\nconst lines = readline.createInterface({ input: process.stdin });\nfor await (const line of lines) console.log(line);\n}\nmain();`,
    },
    {
      language: "typescript",
      what: "require, timers and names of the browser",
      program: `const fs = require("fs");\nlet name: string = fs.readFileSync("/dev/stdin", "utf-8");\nconst timer: NodeJS.Timeout = setTimeout(() => { process.stdout.write(name); clearTimeout(timer); }, 1);`,
    },
    { language: "sql", what: "the lines as they are", program: "SELECT line FROM input ORDER BY rowid;" },
    {
      language: "sql",
      what: "a table of its own",
      program: ".mode list\nCREATE TABLE t AS SELECT line FROM input;\nSELECT line FROM t;",
    },
    {
      language: "bash",
      what: "a last line",
      program: 'while IFS= read -r x || [ -n "$x" ]; do echo "$x"; done',
    },
    { language: "r", what: "lines", program: 'cat(readLines(file("stdin")), sep = "\\n")' },
    { language: "awk", what: "lines", program: "{ print }" },
  ])("$language: $what", async ({ language, what, program }) => {
    const lines = 'a "b|c\n\nå\n';
    const task = Task.parse({
      id: what,
      prompt: "",
      tests: [{ input: lines, output: lines }],
      comparator: "exact",
    });
    const verdict = await pool.verify({ id: what, task, language, program });
    expect(verdict).toMatchObject({ status: "accepted", feedback: "" });
  });
});

const JAVA_MAIN = 'public static void main(String[] args) { System.out.println("ok"); }';

describe.concurrent("Java finds the class that has main", () => {
  let checked: Promise<LanguageCheck[]> | undefined;
  test.for([
    { what: "a public class of another name", program: `public class Solution {\n  ${JAVA_MAIN}\n}` },
    { what: "all on one line", program: `import java.util.*; public final class Sum { ${JAVA_MAIN} }` },
    { what: "a package", program: `package com.example;\n\npublic class Main {\n  ${JAVA_MAIN}\n}` },
    { what: "a helper before it", program: `class Node { int v; }\nclass App {\n  ${JAVA_MAIN}\n}` },
    { what: "a public class without one", program: `public class Node {}\nclass App {\n  ${JAVA_MAIN}\n}` },
    {
      what: "another name in a comment",
      program: `/*\npublic class Old {}\n*/\npublic class Main {\n  ${JAVA_MAIN}\n}`,
    },
  ])("$what", async ({ what, program }, { skip }) => {
    checked ??= checkLanguages(pool, { names: ["java"] });
    const [java] = await checked;
    if (java?.status === "missing") skip(`java is not installed here: ${java.install}`);
    const task = Task.parse({ id: what, prompt: "", tests: [{ input: "", output: "ok\n" }] });
    expect(await pool.verify({ id: what, task, language: "java", program })).toMatchObject({
      status: "accepted",
    });
  });
});

describe.concurrent("the other languages", () => {
  const others = languages.all.filter(({ name }) => !LIGHT.includes(name));

  test.for(others)("$name: as its files say, where its tool is installed", async (language, { skip }) => {
    const trial = await tryLanguage(pool, language);
    const check = judgeTrial(language, trial);
    if (trial.isMissing) {
      expect(check.install).toMatch(/\S/);
      skip(`${language.name} is not installed here: ${check.install}`);
    }
    expect(check).toMatchObject({ status: "ok" });
    expect(trial.examples).toHaveLength(howMany(language));
  });
});
