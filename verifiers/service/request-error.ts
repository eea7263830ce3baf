/** Why the service does not do what a request asks; each API puts it into its own shape. */

/** Also the label of `retort_rejected_total`, all but `gone`: a bounded set. */
export type RejectReason =
  | "body"
  | "context"
  | "content_type"
  | "deadline"
  | "gone"
  | "host"
  | "invalid"
  | "limits"
  | "model"
  | "not_found"
  | "origin"
  | "queue"
  | "stopping"
  | "token"
  | "too_large";

export class RequestError extends Error {
  override readonly name = "RequestError";
  /** Read by fastify. */
  readonly statusCode: number;
  readonly reason: RejectReason;
  readonly retryAfterS: number | null;

  constructor(statusCode: number, reason: RejectReason, message: string, retryAfterS: number | null = null) {
    super(message);
    this.statusCode = statusCode;
    this.reason = reason;
    this.retryAfterS = retryAfterS;
  }
}
