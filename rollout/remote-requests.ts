/** Requests to a sampler in another thread: functions cannot cross, so a request has a number and its events name it. */
import type { Completion, CompletionHandlers, CompletionRequest, StartedRequest } from "./completion.js";
import type { SamplingEngine } from "./lane.js";
import type { StreamedToken } from "./sampling.js";
import { errorOf, failureOf, type ThreadFailure } from "./thread-failure.js";

interface NumberedRequest {
  readonly id: number;
  readonly request: CompletionRequest;
  /** Whether tokens are sent one by one. */
  readonly isStreamed: boolean;
}

export type RemoteCall =
  | { readonly start: readonly NumberedRequest[] }
  | { readonly cancel: number; readonly sample?: number | undefined };

export type RemoteEvent =
  | { readonly id: number; readonly sample: number; readonly token: StreamedToken }
  | { readonly id: number; readonly completion: Completion; readonly decodeSteps: number }
  | { readonly id: number; readonly failed: ThreadFailure };

/** The caller's side. */
export interface RemoteRequests {
  start(request: CompletionRequest, handlers: CompletionHandlers): StartedRequest;
  onEvent(event: RemoteEvent): void;
  /** Every request under way fails; those to come do too. */
  fail(error: Error): void;
  /** Completions that are still to come. */
  pending(): number;
  /** Of the other side, when it last told. */
  decodeSteps(): number;
}

/**
 * @param post - sends a call to the other thread; what is started in one turn goes in one message, so that it is prefilled
 * together there
 * @param onIdle - nothing is pending any more
 */
export function createRemoteRequests(post: (call: RemoteCall) => void, onIdle = () => {}): RemoteRequests {
  const live = new Map<number, { readonly handlers: CompletionHandlers; readonly left: Set<number> }>();
  let unsent: NumberedRequest[] = [];
  let broken: Error | null = null;
  let count = 0;
  let decodeSteps = 0;

  const send = (): void => {
    if (unsent.length > 0) post({ start: unsent });
    unsent = [];
  };
  const end = (id: number): void => {
    if (live.delete(id) && live.size === 0) onIdle();
  };
  const failed = (id: number, error: Error): void => {
    const handlers = live.get(id)?.handlers;
    end(id);
    handlers?.onError(error);
  };
  /** Calls a handler; what it throws ends the request. */
  const tell = (id: number, what: () => void): void => {
    try {
      what();
    } catch (error) {
      post({ cancel: id });
      failed(id, error as Error);
    }
  };

  const cancel = (id: number, sample?: number): void => {
    const left = live.get(id)?.left;
    if (left === undefined || (sample !== undefined && !left.delete(sample))) return;
    send();
    post({ cancel: id, sample });
    if (sample === undefined || left.size === 0) end(id);
  };

  return {
    start: (request, handlers) => {
      if (broken !== null) throw broken;
      const id = count++;
      live.set(id, { handlers, left: new Set(request.samples) });
      if (unsent.length === 0) queueMicrotask(send);
      unsent.push({ id, request, isStreamed: handlers.onToken !== undefined });
      return { cancel: (sample) => cancel(id, sample) };
    },
    onEvent: (event) => {
      if ("decodeSteps" in event) decodeSteps = event.decodeSteps;
      const entry = live.get(event.id);
      if (entry === undefined) return; // cancelled while this was on its way
      const { handlers, left } = entry;
      if ("failed" in event) {
        failed(event.id, errorOf(event.failed));
      } else if ("token" in event) {
        if (left.has(event.sample)) tell(event.id, () => handlers.onToken?.(event.sample, event.token));
      } else if (left.delete(event.completion.sample)) {
        tell(event.id, () => handlers.onFinished(event.completion));
        if (left.size === 0) end(event.id);
      }
    },
    fail: (error) => {
      broken = error;
      for (const id of [...live.keys()]) failed(id, error);
    },
    pending: () => [...live.values()].reduce((sum, { left }) => sum + left.size, 0),
    decodeSteps: () => decodeSteps,
  };
}

/** The sampler's side: what to do with a call. */
export function answerRequests(
  engine: Pick<SamplingEngine, "start" | "decodeSteps">,
  answer: (event: RemoteEvent) => void,
): (call: RemoteCall) => void {
  const live = new Map<number, { readonly started: StartedRequest; readonly left: Set<number> }>();
  const done = (id: number, sample?: number): void => {
    const left = live.get(id)?.left;
    if (sample !== undefined) left?.delete(sample);
    if (sample === undefined || left?.size === 0) live.delete(id);
  };
  const start = ({ id, request, isStreamed }: NumberedRequest): void => {
    const fail = (error: unknown): void => {
      done(id);
      answer({ id, failed: failureOf(error) });
    };
    try {
      const started = engine.start(request, {
        ...(isStreamed ? { onToken: (sample, token) => answer({ id, sample, token }) } : {}),
        onFinished: (completion) => {
          answer({ id, completion, decodeSteps: engine.decodeSteps() });
          done(id, completion.sample);
        },
        onError: fail,
      });
      live.set(id, { started, left: new Set(request.samples) });
    } catch (error) {
      fail(error);
    }
  };
  return (call) => {
    if ("start" in call) {
      for (const request of call.start) start(request);
    } else {
      live.get(call.cancel)?.started.cancel(call.sample);
      done(call.cancel, call.sample);
    }
  };
}
