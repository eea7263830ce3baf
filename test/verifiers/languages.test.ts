import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { parse as parseYaml } from "yaml";
import { ConfigError, packageRoot } from "../../core/index.js";
import {
  EXAMPLE_KINDS,
  LanguageExamples,
  LanguageFile,
  loadLanguages,
  parseLanguage,
  readExamples,
} from "../../verifiers/index.js";
import { AGNOSTICS } from "./agnostics.js";

const folder = mkdtempSync(join(tmpdir(), "retort-languages-"));
afterAll(() => rmSync(folder, { recursive: true }));

function folderWith(files: Readonly<Record<string, string>>): string {
  const made = mkdtempSync(join(folder, "set-"));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(made, name), text);
  return made;
}

const messageOf = (text: string): string => {
  try {
    parseLanguage(text, "mine.yaml");
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).message;
  }
  throw new Error("the file was accepted");
};

describe("language files", () => {
  test("the shipped ones load, under their names and aliases", () => {
    const languages = loadLanguages();
    expect(languages.names).toEqual(expect.arrayContaining(["bash", "c", "javascript", "lua", "python"]));
    expect(languages.get("JS").name).toBe("javascript");
    expect(languages.get("py").name).toBe("python");
  });

  test("each shipped one is what its file says, though the build has parsed it", () => {
    const built = JSON.parse(readFileSync(join(packageRoot, "dist", "languages.json"), "utf8")) as unknown[];
    const { all } = loadLanguages();
    expect(all.length).toBe(built.length);
    for (const language of all)
      expect(language).toEqual(parseLanguage(readFileSync(language.source, "utf8"), language.source));
  });

  test("each shipped one says how to install, probe and test it", () => {
    for (const language of loadLanguages().all) {
      expect([language.name, typeof language.install, typeof language.probe]).toEqual([
        language.name,
        "string",
        "string",
      ]);
      expect(language.selftest?.output).toMatch(/\S/);
      expect(language.fences.length).toBeGreaterThan(0);
    }
  });

  test.each(AGNOSTICS.names)("the file %s of Agnostics loads unchanged", (name) => {
    const own = parseYaml(AGNOSTICS.text(name)) as Record<string, unknown>;
    expect(parseLanguage(AGNOSTICS.text(name), `${name}.yaml`)).toMatchObject({ ...own, name });
  });

  test("what one of Agnostics' files says nothing about is kept of the shipped language", () => {
    const r = loadLanguages([AGNOSTICS.folder]).get("rscript");
    expect(r).toMatchObject({ execute: "Rscript snippet.R", mounts: ["/etc/R"], fences: ["r", "rscript"] });
    expect(r.selftest).toBeUndefined();
  });

  test("an unknown key names file, line and the nearest key", () => {
    expect(messageOf("prompt: p\nfilename: a.x\nexcute: x a.x\nexecute: x a.x\n")).toBe(
      "mine.yaml:3: excute: need a known key. Did you mean execute?",
    );
    expect(messageOf("prompt: p\nfilename: a.x\nexecute: x\nlimits:\n  time: 3\n")).toBe(
      "mine.yaml:5: limits.time: need a known key. Did you mean time_s?",
    );
    expect(messageOf("prompt: p\nfilename: a.x\nexecute: x\nselftest:\n  programm: 3\n")).toBe(
      "mine.yaml:5: selftest.programm: need a known key. Did you mean program?",
    );
    const install = "install:\n  container-instruction: RUN x\n";
    expect(messageOf(`prompt: p\nfilename: a.x\nexecute: x\n${install}`)).toBe(
      "mine.yaml:5: install.container-instruction: need a known key. Did you mean container-instructions?",
    );
  });

  test("a wrong value names its line", () => {
    expect(messageOf("prompt: p\nfilename: ../a.x\nexecute: x\n")).toBe(
      "mine.yaml:2: filename: need a plain file name without a folder.",
    );
    expect(messageOf("prompt: p\nfilename: src/a.x\nexecute: x\n")).toBe(
      "mine.yaml:2: filename: need a plain file name without a folder.",
    );
    expect(messageOf("prompt: p\nfilename: a\nexecute: x\nmounts: [opt/x]\n")).toBe(
      "mine.yaml:4: mounts.0: need a path that begins with / or ~.",
    );
    expect(messageOf("prompt: p\nfilename: a\nexecute: x\nlimits: {memory_mb: -1}\n")).toMatch(
      /^mine\.yaml:4: limits\.memory_mb: /,
    );
  });

  test("a missing key and broken YAML say so", () => {
    expect(messageOf("prompt: p\nfilename: a\n")).toMatch(/^mine\.yaml:1: execute: /);
    expect(messageOf("prompt: [\n")).toMatch(/^mine\.yaml:\d+:\d+: need valid YAML/);
    expect(messageOf("")).toMatch(/^mine\.yaml:1: the file: /);
  });

  test("~ of a mount is the home folder", () => {
    const text = "prompt: p\nfilename: a\nexecute: x\nmounts: [~, ~/.x, /opt/~x]\n".replace("[~,", "['~',");
    expect(parseLanguage(text, "mine.yaml").mounts).toEqual([homedir(), `${homedir()}/.x`, "/opt/~x"]);
  });

  test("a folder of the user's adds languages and replaces shipped ones", () => {
    const mine = folderWith({
      "lua.yaml": "prompt: mine\nfilename: a.lua\nexecute: luajit a.lua\n",
      "gcd.yml": "prompt: p\nfilename: a\nexecute: gcd a\naliases: [Euclid]\n",
      "notes.txt": "not a language",
    });
    const languages = loadLanguages([mine]);
    expect(languages.get("lua").prompt).toBe("mine");
    expect(languages.get("euclid").name).toBe("gcd");
    expect(languages.names).not.toContain("notes");
    expect(loadLanguages([join(mine, "gcd.yml")]).get("gcd").execute).toBe("gcd a");
  });

  test("of two folders the later one wins", () => {
    const text = (prompt: string) => `prompt: ${prompt}\nfilename: a\nexecute: x\naliases: [y]\n`;
    const folders = ["one", "two"].map((prompt) =>
      folderWith({ "x.yaml": text(prompt), [`${prompt}.yaml`]: text(prompt).replace("[y]", "[z]") }),
    );
    const languages = loadLanguages(folders);
    expect([languages.get("x").prompt, languages.get("y").prompt]).toEqual(["two", "two"]);
    expect(languages.get("z").name).toBe("two");
  });

  test("a name beats an alias that an earlier folder gave to another language", () => {
    const mine = folderWith({ "rb.yaml": "prompt: mine\nfilename: a\nexecute: x\n" });
    const languages = loadLanguages([mine]);
    expect([languages.get("rb").name, languages.get("ruby").name]).toEqual(["rb", "ruby"]);
  });

  test("two files of one name in a folder are refused", () => {
    const text = "prompt: p\nfilename: a\nexecute: x\n";
    const mine = folderWith({ "x.yaml": text, "x.yml": text });
    expect(() => loadLanguages([mine])).toThrow(
      `${mine}/x.yml: need one file for a language. ${mine}/x.yaml has the same name; remove one of them.`,
    );
    expect(() => loadLanguages([folderWith({ "X.yaml": text, "x.yaml": text })])).toThrow("the same name");
  });

  test.each([
    { alias: "y", why: "a.yaml has it too" },
    { alias: "A", why: "It is the name of" },
    { alias: "lua", why: "It is the name of" },
  ])("an alias that would be ambiguous is refused: $alias", ({ alias, why }) => {
    const mine = folderWith({
      "a.yaml": "prompt: p\nfilename: a\nexecute: x\naliases: [y]\n",
      "b.yaml": `prompt: p\nfilename: a\nexecute: x\naliases: [${alias}]\n`,
    });
    expect(() => loadLanguages([mine])).toThrow(ConfigError);
    expect(() => loadLanguages([mine])).toThrow(`${mine}/b.yaml: aliases: need an alias that no other`);
    expect(() => loadLanguages([mine])).toThrow(why);
  });

  test("an unknown language names the nearest", () => {
    expect(() => loadLanguages().get("pyton")).toThrow(/Did you mean python\?/);
    expect(() => loadLanguages([join(folder, "nowhere")])).toThrow(ConfigError);
  });

  test.each([
    ["C++", "cpp"],
    ["cxx", "cpp"],
    ["golang", "go"],
    ["ts", "typescript"],
    ["Rscript", "r"],
    ["f90", "fortran"],
    ["ml", "ocaml"],
    ["jl", "julia"],
    ["sqlite3", "sql"],
    ["sh", "bash"],
  ])("people who say %s mean %s", (said, name) => {
    expect(loadLanguages().get(said).name).toBe(name);
  });
});

describe("files of examples", () => {
  const language = "prompt: p\nfilename: a\nexecute: x\n";
  const absent = (kind: string) => `${kind}: { absent: none }\n`;
  const kinds = ["compile_error", "runtime_error", "wrong_answer", "time_limit"];
  const withExamples = (text: string) => {
    const mine = folderWith({ "x.yaml": language });
    mkdirSync(join(mine, "examples"));
    writeFileSync(join(mine, "examples", "x.yaml"), text);
    return () => readExamples(loadLanguages([mine]).get("x"));
  };

  test("a language without any has none, and its folder of examples holds no languages", () => {
    expect(readExamples(parseLanguage(language, "/nowhere/x.yaml"))).toBeNull();
    expect(withExamples(kinds.map(absent).join(""))()).toMatchObject({ time_limit: { absent: "none" } });
  });

  test("a mistyped key, a missing kind, and an example that is neither program nor absent are refused", () => {
    expect(withExamples(kinds.map(absent).join("").replace("runtime", "run_time"))).toThrow(
      /x\.yaml:2: run_time_error: need a known key\. Did you mean runtime_error\?/,
    );
    expect(withExamples(kinds.slice(1).map(absent).join(""))).toThrow(/compile_error/);
    expect(withExamples(kinds.map((kind) => `${kind}: { programm: p }\n`).join(""))).toThrow(
      /compile_error\.programm: need a known key\. Did you mean program\?/,
    );
    expect(withExamples(kinds.map((kind) => `${kind}: { input: p }\n`).join(""))).toThrow(
      /x\.yaml:1: compile_error: need either program or absent/,
    );
  });

  const shipped = loadLanguages().all.map((each) => ({ name: each.name, examples: readExamples(each) }));

  test.each(shipped)("$name has one of each kind, with feedback once it was run", ({ examples }) => {
    for (const kind of EXAMPLE_KINDS) {
      const { absent, feedback } = examples![kind];
      if (examples!.version !== undefined && absent === undefined) expect(feedback).toMatch(/\S/);
    }
  });

  test.each(shipped)(
    "$name's feedback tells nothing of the host: no paths, addresses, times",
    ({ examples }) => {
      const texts = EXAMPLE_KINDS.map((kind) => examples![kind].feedback ?? "").join("\n");
      expect(texts).not.toMatch(/(?:^|[\s"'(`])\/(?:usr|tmp|w|home|root|opt|etc|proc|nix)\//m);
      expect(texts).not.toMatch(/0x[0-9a-f]{5,}/i);
      expect(texts).not.toMatch(/\b\d{1,2}:\d{2}:\d{2}\b|\b20\d\d-\d\d-\d\d\b|\bpid[ =:]*\d+/i);
    },
  );
});

describe("docs/languages.md", () => {
  const text = readFileSync(join(packageRoot, "docs", "languages.md"), "utf8");
  const [language, examples] = [...text.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, body]) => body!);

  test("its file and its examples are valid", () => {
    expect(parseLanguage(language!, "jq.yaml")).toMatchObject({ name: "jq", fences: ["jq"] });
    expect(LanguageExamples.parse(parseYaml(examples!))).toMatchObject({
      compile_error: { status: "runtime_error" },
    });
  });

  test("it explains every key", () => {
    for (const key of Object.keys(LanguageFile.shape))
      expect(text).toMatch(new RegExp(`^\\|[^|]*\`${key}\``, "m"));
  });

  test("every shipped language stands in the log of those that were run", () => {
    const log = readFileSync(join(packageRoot, "docs", "languages-checked.md"), "utf8");
    for (const { name } of loadLanguages().all) expect(log).toContain(`\n| ${name} |`);
  });
});
