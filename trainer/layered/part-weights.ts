/** The parameters that one part of the policy reads, under the names that the part's functions know them by. */
import { isFileTensor, type TensorSpec, type Value } from "../../tensor/index.js";
import type { Values, WeightsCopy } from "../computation.js";
import type { GraphOptions } from "../graphs.js";
import type { Shapes } from "../optimizer.js";

/** The functions of the layers know all of them by the names of the first. */
interface Parameter {
  readonly name: string;
  readonly local: string;
  readonly shape: readonly number[];
  readonly type: TensorSpec["dtype"];
  readonly isLearned: boolean;
  /** Of one that is not learned. */
  readonly value: Value | undefined;
}

export interface PartWeights {
  readonly parameters: readonly Parameter[];
}

function partOf(
  { model, frozen = {} }: GraphOptions,
  names: readonly string[],
  localNames: readonly string[],
): PartWeights {
  const parameters = names.map((name, i): Parameter => {
    const shape = model.shapes[name] ?? model.frozenShapes?.[name];
    if (shape === undefined) throw new Error(`the model has no parameter ${name}`);
    const isLearned = model.shapes[name] !== undefined;
    const type = isLearned || shape.length !== 2 ? "float32" : (model.frozenType ?? "float32");
    return {
      name,
      local: localNames[i]!,
      shape,
      type,
      isLearned,
      value: isLearned ? undefined : frozen[name],
    };
  });
  return { parameters };
}

export interface PolicyParts {
  readonly embedding: PartWeights;
  readonly layers: readonly PartWeights[];
  readonly head: PartWeights;
}

export function policyParts(options: GraphOptions): PolicyParts {
  const { embedding, layers, head } = options.model.parts.names;
  return {
    embedding: partOf(options, embedding, embedding),
    layers: layers.map((names) => partOf(options, names, layers[0]!)),
    head: partOf(options, head, head),
  };
}

/** Whether a part has a parameter that is learned. */
export const isLearned = ({ parameters }: PartWeights): boolean =>
  parameters.some((parameter) => parameter.isLearned);

/** Shapes of the parameters of a part that are learned, by local name. */
export const learnedShapes = ({ parameters }: PartWeights): Shapes =>
  Object.fromEntries(
    parameters.flatMap(({ local, shape, isLearned }) => (isLearned ? [[local, shape]] : [])),
  );

/** Inputs `prefix/` by local name, of the parameters that are learned. */
export const partSpecs = (prefix: string, part: PartWeights): Record<string, TensorSpec> =>
  Object.fromEntries(
    Object.entries(learnedShapes(part)).map(([local, shape]) => [
      `${prefix}/${local}`,
      { shape, dtype: "float32" },
    ]),
  );

const kindOf = ({ isLearned }: Parameter): string => (isLearned ? "weights" : "frozen");

/** Inputs of a function that computes with a part: `weights/` and `frozen/` by local name. */
export function weightSpecs({ parameters }: PartWeights): Record<string, TensorSpec> {
  return Object.fromEntries(
    parameters.map((parameter) => [
      `${kindOf(parameter)}/${parameter.local}`,
      { shape: parameter.shape, dtype: parameter.type },
    ]),
  );
}

/** Feeds of a part's weights, those learned from one copy of the parameters. What stands in files is bound instead. */
export function weightFeeds(part: PartWeights, copy: WeightsCopy, values: Values): Record<string, Value> {
  const feeds: Record<string, Value> = {};
  for (const parameter of part.parameters) {
    const value = parameter.isLearned ? values[`${copy}/${parameter.name}`] : parameter.value;
    if (value !== undefined && !isFileTensor(value)) feeds[`${kindOf(parameter)}/${parameter.local}`] = value;
  }
  return feeds;
}

/** The frozen weights of a part that stand in files, by input name. */
export function boundWeights(part: PartWeights): Record<string, Value> {
  const bound: Record<string, Value> = {};
  for (const { local, value } of part.parameters)
    if (value !== undefined && isFileTensor(value)) bound[`frozen/${local}`] = value;
  return bound;
}
