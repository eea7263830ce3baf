/** New weights while it runs: SGLang's /update_weights_from_disk, vLLM's /v1/load_lora_adapter and /v1/unload_lora_adapter. */
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { ConfigError } from "../../core/index.js";
import { RequestError } from "../../verifiers/service/request-error.js";
import type { PolicyMetrics } from "./metrics.js";
import type { Models } from "./models.js";
import { badField } from "./request-fields.js";
import type { Writing } from "./writing.js";

export interface WeightsParts {
  readonly models: Models;
  readonly metrics: PolicyMetrics;
  /** Requests under way. */
  readonly open: Set<Writing>;
}

/** Further fields of SGLang's own (load_format, flush_cache, ...) change nothing here. */
const UpdateBody = z.looseObject({
  model_path: z.string().min(1),
  weight_version: z.string().nullish(),
  abort_all_requests: z.boolean().nullish(),
});
const LoadBody = z.looseObject({
  lora_name: z.string().min(1),
  lora_path: z.string().min(1),
  load_inplace: z.boolean().nullish(),
});
const UnloadBody = z.looseObject({ lora_name: z.string().min(1) });

function read<T extends z.ZodType>(schema: T, body: unknown): z.infer<T> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw badField(issue.path.map(String).join(".") || "body", issue.message);
}

export function weightsApi(app: FastifyInstance, parts: WeightsParts): void {
  const { models, metrics, open } = parts;
  app.post("/update_weights_from_disk", async (request, reply) => {
    const body = read(UpdateBody, request.body);
    const abort = (): void => {
      if (body.abort_all_requests) for (const writing of open) writing.abort();
    };
    try {
      const version = body.weight_version ?? body.model_path;
      const paused = await models.updateWeights(body.model_path, version, abort);
      metrics.tookWeights();
      return { success: true, message: "Succeeded to update model weights.", num_paused_requests: paused };
    } catch (error) {
      if (!(error instanceof ConfigError) && !(error instanceof RequestError)) throw error;
      reply.code(400);
      return { success: false, message: error.message, num_paused_requests: 0 };
    }
  });
  app.post("/v1/load_lora_adapter", async (request, reply) => {
    const { lora_name, lora_path, load_inplace } = read(LoadBody, request.body);
    await refusing(models.loadAdapter(lora_name, lora_path, load_inplace ?? false));
    metrics.tookWeights();
    reply.type("text/plain");
    return `Success: LoRA adapter '${lora_name}' added successfully.`;
  });
  app.post("/v1/unload_lora_adapter", async (request, reply) => {
    const { lora_name } = read(UnloadBody, request.body);
    await models.unloadAdapter(lora_name);
    reply.type("text/plain");
    return `Success: LoRA adapter '${lora_name}' removed successfully.`;
  });
  // Nothing outlives a request here, so there is nothing to flush; trainers ask all the same.
  const flush = (): string => "Cache flushed.\n";
  app.get("/flush_cache", flush);
  app.post("/flush_cache", flush);
}

/** A folder that cannot be loaded is the asker's mistake. */
async function refusing<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof ConfigError) throw new RequestError(400, "body", error.message);
    throw error;
  }
}
