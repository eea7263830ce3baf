/** Where the weights of a policy stand, before anything is read: sizes are known and every name and shape is checked. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { isFloatDtype, modelTensorPlaces, readFloat32, type TensorPlace } from "../checkpoints/index.js";
import { ConfigError } from "../core/index.js";
import type { DecoderConfig } from "./config.js";
import { parameterShapes } from "./weights.js";

/** Weights on the host, float32, row-major, by Hugging Face name. */
export type HostWeights = Record<string, Float32Array>;

/** Of every parameter, by name, in file order. Plain data, so that it can be posted to other threads. */
export type WeightPlaces = Readonly<Record<string, TensorPlace>>;

/** @throws ConfigError naming the file and the tensor that config.json asks for and that is missing, of another shape, or no float */
export function weightPlaces(folder: string, config: DecoderConfig): WeightPlaces {
  const index = join(folder, "model.safetensors.index.json");
  const single = join(folder, "model.safetensors");
  const file = existsSync(single) || !existsSync(index) ? single : index;
  if (!existsSync(file))
    throw new ConfigError({
      at: file,
      need: "the weights of the policy in safetensors format",
      ...(existsSync(join(folder, "pytorch_model.bin"))
        ? { fix: "pytorch_model.bin is another: transformers saves it anew with save_pretrained." }
        : {}),
    });
  const found = modelTensorPlaces(folder);
  refuseOthers(file, found.keys(), config);
  return Object.fromEntries(
    Object.entries(parameterShapes(config)).map(([name, shape]) => {
      const place = found.get(name);
      if (place === undefined)
        throw new ConfigError({ at: file, need: `a tensor "${name}" of shape [${shape}]` });
      const at = `${file}: ${name}`;
      if (place.shape.join() !== shape.join())
        throw new ConfigError({ at, got: place.shape, need: `shape [${shape}] by config.json` });
      if (!isFloatDtype(place.dtype))
        throw new ConfigError({ at, got: place.dtype, need: "weights of type F32, F16 or BF16" });
      return [name, place];
    }),
  );
}

/** What tools leave in a file beside the weights; the decoder computes it itself. */
const COMPUTED = /\.rotary_emb\.inv_freq$/;

/** @throws ConfigError for a tensor of the decoder that it does not compute with: left out, it would be another policy */
function refuseOthers(file: string, names: Iterable<string>, config: DecoderConfig): void {
  const known = parameterShapes(config);
  for (const name of names) {
    if (!name.startsWith("model.") || known[name] !== undefined || COMPUTED.test(name)) continue;
    throw new ConfigError({
      at: `${file}: ${name}`,
      need: "no tensor but those of a decoder as config.json describes it: this one would be left out",
      fix: "config.json is of another model, or the model computes more than can be done here.",
    });
  }
}

/** All weights in memory. */
export const hostWeights = (places: WeightPlaces): HostWeights =>
  Object.fromEntries(Object.entries(places).map(([name, place]) => [name, readFloat32(place)]));

/** Reads the weights and checks every name and shape against the configuration. */
export const readWeights = (folder: string, config: DecoderConfig): HostWeights =>
  hostWeights(weightPlaces(folder, config));
