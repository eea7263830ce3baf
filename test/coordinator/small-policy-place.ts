import { tmpdir } from "node:os";
import { join } from "node:path";

/** Where the test files of one run of vitest, a process of their own each, share the small policy. @param pid - of vitest */
export const sharedPolicy = (pid: number): string => join(tmpdir(), `retort-small-policy-${pid}`);
