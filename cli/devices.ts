import { Command } from "commander";
import type { DeviceCheck, DeviceRow } from "../coordinator/check-devices.js";

/** `retort devices`: what a policy can compute on here. */
export const devicesCommand = (): Command =>
  new Command("devices")
    .description("List what can compute a policy here, and check a small policy on each: numbers and speed.")
    .option("--json", "print JSON instead of a table")
    .addHelpText(
      "after",
      `
Each device is tried out: what is missing is told with what to install. A device that works computes the log-probabilities
of fixed tokens, which must agree with the cpu's, samples, and takes training steps of a policy of 45,000 parameters; speeds
of one so small say little about a large one. Exit code: 0.
Examples:
  $ retort devices
  $ retort devices --json`,
    )
    .action(async ({ json }: { json?: true }) => {
      const { checkDevices } = await import("../coordinator/check-devices.js");
      const rows = await checkDevices((device) => process.stderr.write(`checking ${device} ...\n`));
      process.stdout.write(json ? `${JSON.stringify(rows, null, 2)}\n` : rows.map(lines).join(""));
    });

const sampled = ({ sampling_tokens_per_s: speed }: DeviceCheck): string =>
  speed === null ? "webgpu samples for it" : `${Math.round(speed)} tokens/s sampled`;

function lines({ device, status, name, reason, fix, check }: DeviceRow): string {
  const about = [`${device.padEnd(11)} ${status.padEnd(8)} ${name ?? reason ?? ""}`.trimEnd()];
  if (name !== null && reason !== null) about.push(reason);
  if (fix !== null) about.push(fix);
  if (check !== null) {
    about.push(
      `log-probs within ${check.log_prob_gap.toExponential(1)} of the cpu's (${check.log_prob_bound} allowed)`,
      `${sampled(check)}, ${Math.round(check.training_tokens_per_s)} tokens/s trained on`,
      `half precision: ${check.half_precision ? "yes" : "no"}`,
    );
  }
  const [first, ...rest] = about;
  return `${first}\n${rest.map((line) => `${" ".repeat(21)}${line}\n`).join("")}`;
}
