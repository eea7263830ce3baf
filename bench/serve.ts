import { createInterface } from "node:readline";

/** Answers the commands of contestant.ts on stdin until it ends. */
export async function serveCommands(
  commands: Readonly<Record<string, (request: never) => unknown>>,
): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    const { op, ...request } = JSON.parse(line) as { op: string };
    const command = commands[op];
    if (!command) throw new Error(`unknown command ${op}`);
    process.stdout.write(`${JSON.stringify(await command(request as never))}\n`);
  }
}
