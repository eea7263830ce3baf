/** Refusals in OpenAI's shape: its clients read `error.message`, `type`, `param` and `code`. */
import type { RejectReason, RequestError } from "../../verifiers/service/request-error.js";
import { FieldError } from "./request-fields.js";

const CODES: Partial<Record<RejectReason, string>> = {
  context: "context_length_exceeded",
  model: "model_not_found",
  token: "invalid_api_key",
  queue: "overloaded",
};

function typeOf(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 403) return "permission_error";
  if (status === 404) return "not_found_error";
  if (status === 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

export const inErrorShape = (error: RequestError): unknown => ({
  error: {
    message: error.message,
    type: typeOf(error.statusCode),
    param: error instanceof FieldError ? error.param : error.reason === "model" ? "model" : null,
    code: CODES[error.reason] ?? null,
  },
});
