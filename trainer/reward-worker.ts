/** Runs in a worker thread, see reward-function.ts: loads the user's module and answers one input at a time. */
import { extname } from "node:path";
import { pathToFileURL } from "node:url";
import { parentPort, workerData } from "node:worker_threads";
import { createJiti } from "jiti";
import type { RewardInput, RewardModule, WorkerReply } from "./reward-function.js";

const port = parentPort!;
const reply = (message: WorkerReply): void => port.postMessage(message);
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

async function loadModule(file: string): Promise<unknown> {
  const isTypeScript = [".ts", ".mts"].includes(extname(file));
  return isTypeScript ? createJiti(import.meta.url).import(file) : import(pathToFileURL(file).href);
}

async function answer(reward: RewardModule, input: RewardInput): Promise<void> {
  try {
    reply({ value: await reward(input) });
  } catch (error) {
    reply({ failed: messageOf(error) });
  }
}

try {
  const { reward } = (await loadModule(workerData as string)) as { reward?: RewardModule };
  if (typeof reward !== "function") throw new Error("it has no such function");
  port.on("message", (input: RewardInput) => {
    void answer(reward, input);
  });
  reply({ value: null });
} catch (error) {
  reply({ failed: messageOf(error) });
}
