import { expect, test, vi } from "vitest";
import type { DeviceTensor } from "../../tensor/index.js";
import { HalfSteppedError } from "../../trainer/computation.js";
import { ObjectiveConfig, OptimizerConfig } from "../../trainer/index.js";
import * as layered from "../../trainer/layered/computation.js";
import { applyParts } from "../../trainer/layered/optimizer-parts.js";
import { tinyLearner, tinySamples } from "./tiny.js";

vi.mock("../../trainer/layered/computation.js", { spy: true });

type Functions = Parameters<typeof applyParts>[3];
type Options = Parameters<typeof applyParts>[2];

/** Functions that give `squares` as their norm, and new values that need no disposal. */
const functionsOf = (squares: number): Functions => ({
  part: ({ inputs, toHost }: Parameters<Functions["part"]>[0]) =>
    Promise.resolve({
      inputs,
      outputs: {},
      run: () => Promise.resolve(toHost ? { squares: Float32Array.of(squares) } : {}),
      dispose: () => Promise.resolve(),
    }),
});

test.each([
  { name: "taken", squares: 4 },
  { name: "not taken, as the norm is not finite", squares: Number.NaN },
])("the gradients' device memory is given back, once, by a step that is $name", async ({ squares }) => {
  const disposed: string[] = [];
  const gradient = (name: string): DeviceTensor => ({
    spec: { shape: [2], dtype: "float32" },
    read: () => Promise.resolve(new Float32Array(2)),
    dispose: () => void disposed.push(name),
  });
  const options = {
    objective: ObjectiveConfig.parse({ type: "sft" }),
    optimizer: OptimizerConfig.parse({ type: "adamw" }),
  } as Options;
  const request = {
    values: {},
    gradients: { "gradients/a": gradient("a"), "gradients/b": gradient("b") },
    scalars: {},
    inPlace: false,
  };
  const parts = ["a", "b"].map((name) => ({ shapes: { [name]: [2] }, names: { [name]: name } }));
  const { gradNorm } = await applyParts(request, parts, options, functionsOf(squares));
  expect(gradNorm).toBe(Math.sqrt(2 * squares));
  expect(disposed).toEqual(["a", "b"]);
});

test.each([
  { failing: 0, error: "out of memory" },
  { failing: 1, error: "half-way" },
])("a step that fails at part $failing ends with: $error", async ({ failing, error }) => {
  const options = {
    objective: ObjectiveConfig.parse({ type: "sft" }),
    optimizer: OptimizerConfig.parse({ type: "adamw" }),
  } as Options;
  const given = functionsOf(1);
  let stepped = 0;
  const functions: Functions = {
    part: async (request) => {
      const compiled = await given.part(request);
      if (request.toHost || stepped++ < failing) return compiled;
      return { ...compiled, run: () => Promise.reject(new Error("out of memory")) };
    },
  };
  const parts = ["a", "b"].map((name) => ({ shapes: { [name]: [2] }, names: { [name]: name } }));
  const gradients = { "gradients/a": new Float32Array(2), "gradients/b": new Float32Array(2) };
  const request = { values: {}, gradients, scalars: {}, inPlace: true };
  await expect(applyParts(request, parts, options, functions)).rejects.toThrow(error);
});

test("a learner whose step failed half-way refuses everything until it is given another state", async () => {
  const learner = tinyLearner({ optimizer: { recompute: "layers" } });
  const computation = vi.mocked(layered.layeredComputation).mock.results.at(-1)!.value as ReturnType<
    typeof layered.layeredComputation
  >;
  const saved = structuredClone(await learner.exportState());
  const apply = vi.spyOn(computation, "apply").mockRejectedValueOnce(new HalfSteppedError("lost device"));
  const samples = tinySamples(2);
  await expect(learner.update({ samples })).rejects.toThrow("--resume");
  await expect(learner.update({ samples })).rejects.toThrow("--resume");
  await expect(learner.exportState()).rejects.toThrow("--resume");
  expect(() => learner.weights()).toThrow("--resume");
  expect(apply).toHaveBeenCalledTimes(1);
  learner.importState(saved);
  expect((await learner.update({ samples })).loss).toBeGreaterThan(0);
  await learner.dispose();
});
