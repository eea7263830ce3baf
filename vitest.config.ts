import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Two cores: more files at once only make the timed parts of the sandbox tests noisier.
    maxWorkers: 2,
    // Real processes and a software GPU on a busy machine: a hang is told late, but nothing fails for want of a core.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
