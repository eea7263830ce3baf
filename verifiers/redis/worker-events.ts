/** What happens to a worker, for its log. */
export type WorkerEvent =
  | {
      readonly event: "joined";
      readonly worker: string;
      readonly redis: string;
      readonly languages: readonly string[];
      readonly capacity: number;
    }
  | { readonly event: "taken"; readonly id: string; readonly task_id: string; readonly language: string }
  | {
      readonly event: "judged";
      readonly id: string;
      readonly task_id: string;
      readonly language: string;
      readonly status: string;
      readonly seconds: number;
    }
  /** Not judged, and nobody is told: its client is gone, another worker has it, or nobody can be told. */
  | { readonly event: "dropped"; readonly id: string; readonly reason: string }
  /** Not judged, and its client is told why. */
  | { readonly event: "refused"; readonly id: string; readonly reason: string }
  | { readonly event: "set_aside"; readonly id: string; readonly reason: string }
  /** Taken and given back unjudged, for this worker stops. */
  | { readonly event: "given_back"; readonly id: string }
  /** Another worker fell silent; its program is in the queue again. */
  | { readonly event: "stalled"; readonly id: string }
  | { readonly event: "redis_lost"; readonly reason: string }
  | { readonly event: "redis_back" }
  | { readonly event: "warning"; readonly reason: string }
  | { readonly event: "stopping"; readonly running: number }
  | { readonly event: "stopped" };

/** One line for a person. */
export function eventLine(event: WorkerEvent): string {
  switch (event.event) {
    case "joined":
      return `${event.worker} joined ${event.redis}: ${event.capacity} programs at a time, ${event.languages.length} languages: ${event.languages.join(", ")}`;
    case "taken":
      return `took ${event.language} program of task ${event.task_id} (${event.id})`;
    case "judged":
      return `${event.status} after ${event.seconds.toFixed(2)} s: ${event.language} program of task ${event.task_id} (${event.id})`;
    case "stalled":
      return `another worker fell silent; its program ${event.id} waits again`;
    case "given_back":
      return `gave back ${event.id}`;
    case "redis_lost":
      return `Redis is gone (${event.reason}); trying again until it is back`;
    case "redis_back":
      return "Redis is back";
    case "warning":
      return event.reason;
    case "stopping":
      return `stopping: finishing ${event.running} programs; once more stops at once`;
    case "stopped":
      return "stopped";
    default:
      return `${event.event.replace("_", " ")} ${event.id}: ${event.reason}`;
  }
}
