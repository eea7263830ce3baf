import type {
  Completion,
  CompletionHandlers,
  CompletionRequest,
  GroupRequest,
  SampledSequence,
  SamplingOptions,
  SamplingStats,
  StartedRequest,
} from "./completion.js";

type Start = (request: CompletionRequest, handlers: CompletionHandlers) => StartedRequest;

/**
 * Draws every sample of every group through `start`.
 * @param decodeSteps - of the sampler until now
 * @throws what a request failed with, or what `onFinished` threw; the other requests are then cancelled
 */
export async function sampleGroups(
  start: Start,
  groups: readonly GroupRequest[],
  options: SamplingOptions,
  onFinished: (sequence: SampledSequence) => void,
  decodeSteps: () => number,
): Promise<SamplingStats> {
  const [began, stepsBefore] = [performance.now(), decodeSteps()];
  let tokens = 0;
  let left = groups.reduce((sum, { samples }) => sum + samples.length, 0);
  const started: StartedRequest[] = [];
  try {
    await new Promise<void>((resolve, reject) => {
      if (left === 0) resolve();
      for (const { group, ...request } of groups) {
        if (request.samples.length === 0) continue;
        const finished = (completion: Completion): void => {
          onFinished({ group, ...completion });
          tokens += completion.completionIds.length;
          left--;
          if (left === 0) resolve();
        };
        started.push(start({ ...options, ...request }, { onFinished: finished, onError: reject }));
      }
    });
  } catch (error) {
    for (const request of started) request.cancel();
    throw error;
  }
  return {
    tokens,
    seconds: (performance.now() - began) / 1000,
    decodeSteps: decodeSteps() - stepsBefore,
  };
}
