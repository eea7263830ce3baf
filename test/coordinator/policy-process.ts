/** The quick start's policy behind `retort serve`, a process of its own, and what is asked of it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { packageRoot } from "../../core/index.js";
import { readTokenizer } from "../../policy/index.js";
import { retort } from "../cli/retort.js";
import { type ServiceProcess, startService } from "../verifiers/service-process.js";

export const shipped = join(packageRoot, "checkpoints", "quickstart");
export const tokenizer = readTokenizer(shipped);
export const prompt = tokenizer.promptIds([{ role: "user", content: "Read a word. Report it reversed." }]);

/** Few, to see that requests share the slots and wait for them. */
export const SLOTS = 3;

export const startPolicy = (
  args: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<ServiceProcess> =>
  startService(["--device", "cpu", "--threads", "1", "--slots", String(SLOTS), ...args], env, [
    "--policy",
    shipped,
    "--port",
    "0",
  ]);

/** What vLLM and we add to OpenAI's choices. */
export interface Extended {
  readonly index: number;
  readonly text: string;
  readonly finish_reason: string | null;
  readonly stop_reason: string | number | null;
  readonly token_ids: number[];
  readonly prompt_token_ids?: number[];
  readonly logprobs: { token_logprobs: number[]; tokens: string[]; text_offset: number[] } | null;
}

export const idsOf = (choices: readonly Extended[]): number[][] => choices.map(({ token_ids }) => token_ids);

/** Asks for completions of `prompt`, with their ids. */
export const completer =
  (client: () => OpenAI) =>
  async (body: Record<string, unknown>): Promise<Extended[]> => {
    const asked = { model: "quickstart", prompt: prompt as never, max_tokens: 40, return_token_ids: true };
    const answer = await client().completions.create({ ...asked, ...body } as never);
    return (answer as unknown as { choices: Extended[] }).choices;
  };

export const clientOf = ({ url }: ServiceProcess): OpenAI =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });

/** What `retort score` says of each row. */
export async function scores(policy: string, rows: readonly (readonly number[])[]): Promise<number[][]> {
  const folder = mkdtempSync(join(tmpdir(), "policy-scores-"));
  const file = join(folder, "ids.jsonl");
  writeFileSync(file, rows.map((ids) => `${JSON.stringify({ ids })}\n`).join(""));
  const { stdout } = await retort(["score", "--policy", policy, "--ids", file, "--device", "cpu"]);
  rmSync(folder, { recursive: true });
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => (JSON.parse(line) as { log_probs: number[] }).log_probs);
}

export const worstGap = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, index) => Math.abs(value - b[index]!)));
