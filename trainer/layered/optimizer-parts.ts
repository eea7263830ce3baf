/** One optimizer step, part by part: of the state, only one part exists twice at a time. */

import type { TensorMap, TensorSpec, Value } from "../../tensor/index.js";
import type * as tf from "../../tensor/tfjs.js";
import { type Applied, type ApplyRequest, HalfSteppedError, type Values } from "../computation.js";
import type { GraphOptions } from "../graphs.js";
import { disposeAll } from "../learner-state.js";
import { hasTeacher } from "../objective-config.js";
import { optimizerSpecs, type Shapes, scaledStep, squaredNorm } from "../optimizer.js";
import type { LayerFunctions } from "./functions.js";
import type { PartFunction } from "./part-function.js";
import { learnedShapes, type PolicyParts } from "./part-weights.js";

/** Parameters that are stepped together, by local name; parts of equal shapes share their functions. */
export interface OptimizerPart {
  readonly shapes: Shapes;
  /** Full names by local name. */
  readonly names: Readonly<Record<string, string>>;
}

/** The learned parameters of each layer together, every other one by itself. */
export function optimizerParts({ embedding, layers, head }: PolicyParts): OptimizerPart[] {
  const others = [...embedding.parameters, ...head.parameters].filter(({ isLearned }) => isLearned);
  const names = [...new Set(others.map(({ name }) => name))]; // a tied embedding is there twice
  const single = names.map((name): OptimizerPart => {
    const { shape } = others.find((parameter) => parameter.name === name)!;
    return { shapes: { [name]: shape }, names: { [name]: name } };
  });
  const ofLayers = layers.map((part): OptimizerPart => {
    const pairs = part.parameters.flatMap(({ local, name, isLearned }) => (isLearned ? [[local, name]] : []));
    return { shapes: learnedShapes(part), names: Object.fromEntries(pairs) as Record<string, string> };
  });
  return [...single, ...ofLayers].filter(({ shapes }) => Object.keys(shapes).length > 0);
}

interface StepFunctions {
  /** `gradients/` -> `squares`: the sum of their squares. */
  norm(part: OptimizerPart): Promise<PartFunction>;
  /** Inputs of the step, `grad_norm` -> `squares` of the weights it would give. */
  trial(part: OptimizerPart): Promise<PartFunction>;
  /** The same -> the new `weights/`, moments and `teacher/`. */
  step(part: OptimizerPart): Promise<PartFunction>;
}

function stepFunctions(
  { optimizer, objective }: GraphOptions,
  functions: Pick<LayerFunctions, "part">,
): StepFunctions {
  const withTeacher = hasTeacher(objective);
  const stepped = (inputs: TensorMap, { shapes }: OptimizerPart): Record<string, tf.Tensor> =>
    scaledStep(inputs, optimizer, shapes, withTeacher, inputs.grad_norm as tf.Scalar);
  const all = (prefix: string, { shapes }: OptimizerPart, tensors: TensorMap): tf.Tensor[] =>
    Object.keys(shapes).map((name) => tensors[`${prefix}/${name}`]!);
  const specs = ({ shapes }: OptimizerPart): Record<string, TensorSpec> => ({
    ...optimizerSpecs(optimizer, shapes, withTeacher),
    grad_norm: { shape: [], dtype: "float32" },
  });
  const name = (kind: string, { shapes }: OptimizerPart): string => `${kind} ${JSON.stringify(shapes)}`;
  return {
    norm: (part) =>
      functions.part({
        name: name("norm", part),
        fn: (inputs) => ({ squares: squaredNorm(all("gradients", part, inputs)) }),
        inputs: Object.fromEntries(
          Object.entries(specs(part)).filter(([key]) => key.startsWith("gradients/")),
        ),
        toHost: ["squares"],
      }),
    trial: (part) =>
      functions.part({
        name: name("trial", part),
        fn: (inputs) => ({ squares: squaredNorm(all("weights", part, stepped(inputs, part))) }),
        inputs: specs(part),
        toHost: ["squares"],
      }),
    step: (part) =>
      functions.part({
        name: name("step", part),
        fn: (inputs) => stepped(inputs, part),
        inputs: specs(part),
      }),
  };
}

/** Those of the available values that a function of a part takes, under its names. */
function feedsOf(part: OptimizerPart, { inputs }: PartFunction, available: Values): Record<string, Value> {
  return Object.fromEntries(
    Object.keys(inputs).map((key) => {
      const slash = key.indexOf("/");
      const full = slash < 0 ? key : `${key.slice(0, slash)}/${part.names[key.slice(slash + 1)]!}`;
      return [key, available[full]!];
    }),
  );
}

/**
 * The step in three passes over the parts: the norm of all gradients; the norm of the weights that the step would give,
 * which shows whether it may be taken; the step. Nothing is changed when one of the two norms is not finite.
 * @throws HalfSteppedError when a part cannot be stepped after others were
 */
export async function applyParts(
  { values, gradients, scalars, inPlace }: ApplyRequest,
  parts: readonly OptimizerPart[],
  options: GraphOptions,
  functions: Pick<LayerFunctions, "part">,
): Promise<Applied> {
  const graphs = stepFunctions(options, functions);
  const available: Record<string, Value> = { ...gradients };
  for (const [name, value] of Object.entries(scalars)) available[name] = Float32Array.of(value);
  const norm = async (graph: "norm" | "trial"): Promise<number> => {
    let squares = 0;
    for (const part of parts) {
      const compiled = await graphs[graph](part);
      const outputs = await compiled.run(0, feedsOf(part, compiled, { ...values, ...available }));
      squares += (outputs.squares as Float32Array)[0]!;
    }
    return Math.sqrt(squares);
  };
  const gradNorm = await norm("norm");
  available.grad_norm = Float32Array.of(gradNorm);
  const weightNorm = await norm("trial");
  const next = inPlace ? values : { ...values };
  if (Number.isFinite(gradNorm + weightNorm)) {
    for (const [index, part] of parts.entries()) {
      try {
        await replacePart(part, await graphs.step(part), next, available, inPlace);
      } catch (cause) {
        throw inPlace && index > 0 ? new HalfSteppedError(cause) : cause;
      }
    }
  } else disposeAll(Object.values(gradients));
  return { values: next, gradNorm, weightNorm };
}

/** Steps one part: its new values stand in the record, its gradients are given up. */
async function replacePart(
  part: OptimizerPart,
  compiled: PartFunction,
  next: Record<string, Value>,
  available: Values,
  inPlace: boolean,
): Promise<void> {
  const feeds = feedsOf(part, compiled, { ...next, ...available });
  const outputs = await compiled.run(0, feeds);
  for (const [key, value] of Object.entries(outputs)) {
    const slash = key.indexOf("/");
    const full = `${key.slice(0, slash)}/${part.names[key.slice(slash + 1)]!}`;
    if (inPlace) disposeAll([next[full]!]);
    next[full] = value;
  }
  disposeAll(Object.keys(part.names).map((local) => feeds[`gradients/${local}`]!));
}
