import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import {
  type Answer,
  type Asked,
  type EndpointServer,
  startEndpoint,
} from "../coordinator/endpoint-server.js";
import { type Outcome, retort } from "./retort.js";

const root = mkdtempSync(join(tmpdir(), "cli-eval-endpoint-"));
afterAll(() => rmSync(root, { recursive: true }));
let folder = "";
let out = "";
let count = 0;
let server: EndpointServer;
let answers: (asked: Asked, before: number) => Answer;
beforeEach(async () => {
  folder = join(root, String(count++));
  out = join(folder, "results.jsonl");
  answers = () => ({ text: RIGHT });
  server = await startEndpoint((asked, before) => answers(asked, before));
});
afterEach(() => server.close());

const RIGHT = "Here you are:\n```\nread a b; echo $((a + b))\n```\n";
const WRONG = "```\necho 0\n```";
const KEY = "sk-never-to-be-written";

const tasks = join(root, "tasks.jsonl");
writeFileSync(
  tasks,
  ["one", "two", "three"]
    .map((id) => JSON.stringify({ id, prompt: `Add, ${id}.`, tests: [{ input: "1 2\n", output: "3\n" }] }))
    .join("\n"),
);

const evaluate = (...more: readonly string[]): Promise<Outcome> =>
  retort(
    [
      "eval",
      "--tasks",
      tasks,
      "--endpoint",
      server.url,
      "--model",
      "m",
      "--out",
      out,
      "--json",
      "--language",
      "bash",
      ...more,
    ],
    { env: { RETORT_API_KEY: KEY } },
  );
const rows = (): { task_id: string; sample: number; status: string; reason?: string; language: string }[] =>
  readFileSync(out, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as never);
const summaryOf = ({ stdout }: Outcome) => JSON.parse(stdout) as Record<string, unknown>;

test("tasks x languages x samples are asked for, judged as they come, and kept as solutions", async () => {
  answers = ({ prompt }) => ({ text: prompt.includes("two") ? WRONG : RIGHT });
  const outcome = await evaluate("--language", "python", "--samples", "2");
  expect(summaryOf(outcome)).toMatchObject({
    tasks: 3,
    samples: 12,
    "pass@1": expect.closeTo(1 / 3), // the program is Bash's: Python refuses it
    languages: { bash: { "pass@1": expect.closeTo(2 / 3) }, python: { "pass@1": 0 } },
    judged_now: 12,
  });
  expect(server.asked.length).toBe(12);
  expect(server.asked.every(({ authorization }) => authorization === `Bearer ${KEY}`)).toBe(true);
  const instructed = server.asked.filter(({ prompt }) => /^Add, one\.\n\n.*bash/is.test(prompt));
  expect(instructed.length).toBe(2); // the language's own instruction stands after the prompt
  expect(rows().map(({ task_id, language, sample }) => [task_id, language, sample])).toEqual(
    ["one", "two", "three"].flatMap((id) =>
      ["bash", "python"].flatMap((language) => [0, 1].map((sample) => [id, language, sample])),
    ),
  );
  for (const name of readdirSync(folder)) expect(readFileSync(join(folder, name), "utf8")).not.toContain(KEY);

  const again = join(folder, "again.jsonl");
  const completions = join(folder, "results.completions.jsonl");
  const { stdout } = await retort([
    "eval",
    "--tasks",
    tasks,
    "--solutions",
    completions,
    "--out",
    again,
    "--json",
  ]);
  expect(JSON.parse(stdout)).toMatchObject({ samples: 12, "pass@1": expect.closeTo(1 / 3) });
});

test("an endpoint's failures are infrastructure, asked again by the next call; what is there is not", async () => {
  const bad: Record<string, Answer> = {
    one: { json: { choices: [] } },
    two: { status: 500, json: { error: { message: "oops" } } },
  };
  answers = ({ prompt }) =>
    Object.entries(bad).find(([id]) => prompt.includes(id))?.[1] ?? { text: "I cannot." };
  const first = await evaluate("--retries", "0");
  expect(first.code).toBe(0);
  expect(summaryOf(first)).toMatchObject({
    infrastructure: 2,
    statuses: { no_program: 1, infrastructure: 2 },
    "pass@1": 0,
    unjudged_tasks: ["one", "two"],
  });
  expect(rows().map(({ status, reason }) => [status, reason])).toEqual([
    ["infrastructure", 'endpoint: the endpoint answered without a choice: {"choices":[]}'],
    ["infrastructure", "endpoint: 500 oops"],
    ["no_program", undefined],
  ]);
  answers = () => ({ text: RIGHT });
  const second = await evaluate();
  expect(server.asked.slice(3).map(({ prompt }) => prompt.slice(0, 8))).toEqual(["Add, one", "Add, two"]);
  expect(summaryOf(second)).toMatchObject({
    infrastructure: 0,
    "pass@1": expect.closeTo(2 / 3),
    judged_now: 2,
  });
  const third = await evaluate();
  expect([summaryOf(third).programs_per_s, server.asked.length]).toEqual([null, 5]);
});

test("more samples draw only the new ones; another temperature draws all anew and keeps the old completions", async () => {
  await evaluate();
  await evaluate("--samples", "3");
  expect([server.asked.length, rows().length]).toEqual([9, 9]);
  const { stderr } = await evaluate("--samples", "3", "--temperature", "0.5");
  expect(stderr).toContain(
    "temperature (was null, is 0.5): every completion is drawn anew; the earlier ones are in",
  );
  expect(server.asked.length).toBe(18);
  const aside = join(folder, "results.completions.jsonl.1");
  expect(readFileSync(aside, "utf8").trimEnd().split("\n").length).toBe(9);
});

test("a changed prompt draws its task anew, and no other", async () => {
  await evaluate();
  const changed = readFileSync(tasks, "utf8");
  try {
    writeFileSync(tasks, changed.replace("Add, two.", "Please add, two."));
    const { stderr } = await evaluate();
    expect(stderr).toContain("1 prompts changed: their completions are drawn anew");
    expect(server.asked.slice(3).map(({ prompt }) => prompt.slice(0, 11))).toEqual(["Please add,"]);
    expect(rows().map(({ task_id }) => task_id)).toEqual(["one", "two", "three"]);
  } finally {
    writeFileSync(tasks, changed);
  }
});

test("a task keeps to its own language, unless told", async () => {
  const own = join(root, "own-language.jsonl");
  writeFileSync(
    own,
    `${JSON.stringify({ id: "own", prompt: "p", language: "lua", tests: [{ input: "", output: "1" }] })}\n`,
  );
  const args = ["--endpoint", server.url, "--model", "m", "--language", "bash", "--json"];
  await retort(["eval", "--tasks", own, "--out", out, ...args]);
  expect(rows().map(({ language }) => language)).toEqual(["lua"]);
  await retort(["eval", "--tasks", own, "--out", `${out}2`, ...args, "--override-language"]);
  expect(JSON.parse(readFileSync(`${out}2`, "utf8"))).toMatchObject({ language: "bash" });
});

test("an endpoint that refuses the key ends with exit 2 and what to do; nothing is judged", async () => {
  answers = () => ({ status: 401, json: { error: { message: `bad key ${KEY}` } } });
  const { code, stderr } = await evaluate();
  expect(code).toBe(2);
  expect(stderr).toContain("401 bad key [key]");
  expect(stderr).toContain("RETORT_API_KEY or OPENAI_API_KEY");
  expect(stderr).not.toContain(KEY);
  expect(existsSync(`${out}.lock`)).toBe(false);
});

test("an endpoint that nobody answers at ends with exit 1, and the same command goes on later", async () => {
  const { url } = server;
  await server.close();
  const { code, stderr } = await evaluate("--retries", "0", "--samples", "8");
  expect([code, stderr.includes("has answered none of the last requests")]).toEqual([1, true]);
  server = await startEndpoint(() => ({ text: RIGHT }));
  expect(server.url).not.toBe(url); // another address is no other model
  const second = await evaluate("--samples", "8");
  expect(summaryOf(second)).toMatchObject({ samples: 24, "pass@1": 1 });
});
