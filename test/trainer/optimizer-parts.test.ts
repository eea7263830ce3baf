import { expect, test } from "vitest";
import type { DeviceTensor } from "../../tensor/index.js";
import { ObjectiveConfig, OptimizerConfig } from "../../trainer/index.js";
import { applyParts } from "../../trainer/layered/optimizer-parts.js";

type Functions = Parameters<typeof applyParts>[3];
type Options = Parameters<typeof applyParts>[2];

/** Functions that give `squares` as their norm, and new values that need no disposal. */
const functionsOf = (squares: number): Functions => ({
  part: ({ inputs, toHost }: Parameters<Functions["part"]>[0]) =>
    Promise.resolve({
      inputs,
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
