import { rmSync } from "node:fs";
import { sharedPolicy } from "./small-policy-place.js";

/** Vitest calls this once a run: removes the policy that the test files shared, see `writeSmallPolicy`. */
export default function setup(): () => void {
  return () => rmSync(sharedPolicy(process.pid), { recursive: true, force: true });
}
