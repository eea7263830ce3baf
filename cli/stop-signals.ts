import { constants } from "node:os";

/** Aborted by the first Ctrl-C or SIGTERM, which `message` explains; the second one ends the process at once. */
export function stopSignals(message: string): { signal: AbortSignal; exitCode: () => number } {
  const controller = new AbortController();
  let exitCode = 0;
  const stop = (name: "SIGINT" | "SIGTERM"): void => {
    exitCode = 128 + constants.signals[name];
    if (controller.signal.aborted) process.exit(exitCode);
    process.stderr.write(`\n${message}\n`);
    controller.abort();
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  return { signal: controller.signal, exitCode: () => exitCode };
}
