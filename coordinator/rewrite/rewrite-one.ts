/** One exercise: ask, prove, say what was wrong, ask again. */
import type { Task } from "../../core/index.js";
import type { FunctionProblem } from "../../tasks/index.js";
import { firstMessages, type Message, readReply, withComplaint } from "./conversation.js";
import type { Endpoint, Reply } from "./endpoint.js";
import { ProposalRefused, type Prover, type RewriteReason } from "./prove.js";

/** What became of an exercise. */
export type Rewriting =
  | { readonly task: Task; readonly attempts: number }
  | { readonly reason: RewriteReason; readonly message: string; readonly attempts: number };

export interface Rewriter {
  readonly endpoint: Pick<Endpoint, "ask">;
  readonly prover: Pick<Prover, "checkOriginal" | "prove">;
  /** Proposals asked of the model before an exercise is given up. */
  readonly attempts: number;
  readonly minTests: number;
  /** Called for each reply, good or bad: all are paid for. */
  readonly onReply?: (reply: Reply) => void;
}

async function proven(rewriter: Rewriter, problem: FunctionProblem, reply: Reply): Promise<Task> {
  if (reply.isTruncated) {
    throw new ProposalRefused("malformed_reply", "the reply was cut at its longest length: be shorter");
  }
  const proposal = readReply(reply.text);
  if (typeof proposal === "string") throw new ProposalRefused("malformed_reply", proposal);
  return rewriter.prover.prove(problem, proposal);
}

/**
 * Rewrites an exercise; its own solution is tried first, so that nothing is paid for one that contradicts itself.
 * @throws EndpointError, ConfigError as `Endpoint.ask`; InfrastructureError where programs cannot be run
 */
export async function rewriteOne(rewriter: Rewriter, problem: FunctionProblem): Promise<Rewriting> {
  let attempts = 0;
  try {
    await rewriter.prover.checkOriginal(problem);
  } catch (error) {
    if (!(error instanceof ProposalRefused)) throw error;
    return { reason: error.reason, message: error.message, attempts };
  }
  let messages: Message[] = firstMessages(problem, rewriter.minTests);
  for (;;) {
    attempts++;
    const reply = await rewriter.endpoint.ask(messages);
    rewriter.onReply?.(reply);
    try {
      return { task: await proven(rewriter, problem, reply), attempts };
    } catch (error) {
      if (!(error instanceof ProposalRefused)) throw error;
      if (attempts >= rewriter.attempts) return { reason: error.reason, message: error.message, attempts };
      messages = withComplaint(messages, reply.text, error.message);
    }
  }
}
