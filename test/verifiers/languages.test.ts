import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ConfigError } from "../../core/index.js";
import { loadLanguages, parseLanguage } from "../../verifiers/index.js";

const folder = mkdtempSync(join(tmpdir(), "retort-languages-"));
afterAll(() => rmSync(folder, { recursive: true }));

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

  test.each([
    [
      "four keys",
      "prompt: Use it.\ninstall: apt-get install -y x\nfilename: snippet.x\nexecute: x snippet.x\n",
    ],
    [
      "a compile step",
      "prompt: |\n  Use it.\n  Two lines.\ninstall: apt-get install -y x\nfilename: snippet.x\ncompile: xc -o snippet.out snippet.x\nexecute: ./snippet.out\n",
    ],
    [
      "a container",
      "prompt: p\ncontainer:\n  base-image: x:1.11\n  type: debian\nfilename: snippet.x\nexecute: x snippet.x\n",
    ],
    [
      "instructions for a container",
      "prompt: p\ninstall:\n  container-instructions: |\n    RUN a\n    ENV B=c\ncontainer:\n  base-image: x\n  type: debian\nfilename: snippet.x\nexecute: x -require base snippet.x\n",
    ],
  ])("a file in the manner of Agnostics loads unchanged: %s", (_, text) => {
    expect(parseLanguage(text, "mine.yaml")).toMatchObject({ name: "mine", aliases: [], env: {} });
  });

  test("an unknown key names file, line and the nearest key", () => {
    expect(messageOf("prompt: p\nfilename: a.x\nexcute: x a.x\nexecute: x a.x\n")).toBe(
      "mine.yaml:3: excute: need a known key. Did you mean execute?",
    );
    expect(messageOf("prompt: p\nfilename: a.x\nexecute: x\nlimits:\n  time: 3\n")).toBe(
      "mine.yaml:5: limits.time: need a known key. Did you mean time_s?",
    );
  });

  test("a wrong value names its line", () => {
    expect(messageOf("prompt: p\nfilename: ../a.x\nexecute: x\n")).toBe(
      "mine.yaml:2: filename: need a plain file name without a folder.",
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

  test("a folder of the user's adds languages and replaces shipped ones", () => {
    writeFileSync(join(folder, "lua.yaml"), "prompt: mine\nfilename: a.lua\nexecute: luajit a.lua\n");
    writeFileSync(join(folder, "gcd.yml"), "prompt: p\nfilename: a\nexecute: gcd a\naliases: [euclid]\n");
    const languages = loadLanguages([folder]);
    expect(languages.get("lua").prompt).toBe("mine");
    expect(languages.get("euclid").name).toBe("gcd");
  });

  test("an unknown language names the nearest", () => {
    expect(() => loadLanguages().get("pyton")).toThrow(/Did you mean python\?/);
    expect(() => loadLanguages([join(folder, "nowhere")])).toThrow(ConfigError);
  });
});
