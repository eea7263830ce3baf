import type { DeviceChoice } from "../../policy/run-config.js";
import type { Provider } from "../../tensor/index.js";
import type { RunConfig } from "../config.js";
import { chooseProvider } from "../devices.js";

/** What a plan is for: the device asked for, whether or not it is here; else what the run would choose. */
export async function plannedProvider(config: RunConfig, asked?: DeviceChoice): Promise<Provider> {
  const device = asked ?? config.policy.device;
  return device === "auto" ? chooseProvider("auto") : device;
}
