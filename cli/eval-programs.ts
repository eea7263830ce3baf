/** From the options of `retort eval` to where its programs come from. */
import type { Programs } from "../coordinator/evaluate-programs.js";
import { ConfigError } from "../core/index.js";
import type { DEVICES } from "../policy/run-config.js";
import { type BasePrecision, MAX_NEW_TOKENS } from "./arguments.js";

/** Absent: not given. What an option is absent of is chosen here, by the source that it belongs to. */
export interface ProgramOptions {
  readonly solutions?: string;
  readonly references?: true;
  readonly policy?: string;
  readonly endpoint?: string;
  readonly model?: string;
  readonly completionsApi?: true;
  readonly concurrency?: number;
  readonly requestsPerMinute?: number;
  readonly timeoutS?: number;
  readonly retries?: number;
  readonly body?: Readonly<Record<string, unknown>>;
  readonly language: readonly string[];
  readonly overrideLanguage?: true;
  readonly samples?: number;
  readonly temperature?: number;
  readonly topP?: number;
  readonly maxNewTokens?: number;
  readonly seed?: number;
  readonly system?: string;
  readonly instruct: boolean;
  readonly programIn?: "fenced" | "whole";
  readonly completions?: string;
  readonly device?: (typeof DEVICES)[number];
  readonly basePrecision?: BasePrecision;
}

const SOURCES = ["solutions", "references", "policy", "endpoint"] as const;
type Source = (typeof SOURCES)[number];

/** Options that only some sources have a use for. */
const USED_BY: Readonly<Record<string, readonly Source[]>> = {
  model: ["endpoint"],
  completionsApi: ["endpoint"],
  concurrency: ["endpoint"],
  requestsPerMinute: ["endpoint"],
  timeoutS: ["endpoint"],
  retries: ["endpoint"],
  body: ["endpoint"],
  device: ["policy"],
  basePrecision: ["policy"],
  language: ["policy", "endpoint"],
  overrideLanguage: ["policy", "endpoint"],
  samples: ["policy", "endpoint"],
  temperature: ["policy", "endpoint"],
  topP: ["policy", "endpoint"],
  maxNewTokens: ["policy", "endpoint"],
  seed: ["policy", "endpoint"],
  system: ["policy", "endpoint"],
  completions: ["policy", "endpoint"],
  programIn: ["solutions", "policy", "endpoint"],
};

/** "topP" -> "--top-p" */
export const flag = (name: string): string =>
  `--${name.replace(/[A-Z]/g, (capital) => `-${capital.toLowerCase()}`)}`;

const isGiven = (value: unknown): boolean =>
  value !== undefined && !(Array.isArray(value) && value.length === 0);

/** @throws ConfigError unless exactly one source is named, and nothing that it has no use for */
function sourceOf(options: ProgramOptions): Source {
  const named = SOURCES.filter((source) => options[source] !== undefined);
  if (named.length !== 1) {
    throw new ConfigError({
      at: "retort eval",
      need: "one source of programs: --solutions FILE, --references, --policy DIR or --endpoint URL",
      ...(named.length === 0 ? {} : { got: named.map(flag).join(" ") }),
    });
  }
  const source = named[0]!;
  for (const [name, sources] of Object.entries(USED_BY)) {
    if (isGiven(options[name as keyof ProgramOptions]) && !sources.includes(source)) {
      throw new ConfigError({
        at: flag(name),
        need: `${sources.map(flag).join(" or ")}: ${flag(source)} has no use for it`,
      });
    }
  }
  return source;
}

/** @param environment - holds the endpoint's key, which never stands on a command line */
export function programsOf(
  options: ProgramOptions,
  environment: Readonly<Record<string, string | undefined>>,
): Programs {
  const source = sourceOf(options);
  const programIn = options.programIn ?? "fenced";
  if (source === "references") return { from: "references" };
  if (source === "solutions") return { from: "solutions", file: options.solutions!, programIn };
  const sampled = {
    assignment: {
      languages: options.language,
      overridesLanguage: options.overrideLanguage ?? false,
      samples: options.samples ?? 1,
      systemPrompt: options.system ?? null,
      instruct: options.instruct,
      programIn,
    },
    ...(options.completions === undefined ? {} : { completions: options.completions }),
  };
  if (source === "endpoint")
    return { from: "endpoint", endpoint: endpointOf(options, environment), ...sampled };
  const policy = {
    folder: options.policy!,
    device: options.device ?? "auto",
    seed: options.seed ?? 0,
    temperature: options.temperature ?? 1,
    topP: options.topP ?? 1,
    maxTokens: options.maxNewTokens ?? MAX_NEW_TOKENS,
    slots: 64,
    basePrecision: { type: options.basePrecision ?? "float32", at: "--base-precision" },
  };
  return { from: "policy", policy, ...sampled };
}

function endpointOf(
  options: ProgramOptions,
  environment: Readonly<Record<string, string | undefined>>,
): Extract<Programs, { from: "endpoint" }>["endpoint"] {
  if (options.model === undefined) {
    throw new ConfigError({ at: "--model", need: "the model's name, as the endpoint spells it" });
  }
  const key = environment.RETORT_API_KEY || environment.OPENAI_API_KEY;
  const { requestsPerMinute, temperature, topP, seed } = options;
  return {
    url: options.endpoint!,
    model: options.model,
    api: options.completionsApi ? "completions" : "chat",
    ...(key ? { key } : {}),
    concurrency: options.concurrency ?? 8,
    ...(requestsPerMinute === undefined ? {} : { requestsPerMinute }),
    timeoutS: options.timeoutS ?? 300,
    retries: options.retries ?? 5,
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : { topP }),
    ...(seed === undefined ? {} : { seed }),
    maxTokens: options.maxNewTokens ?? MAX_NEW_TOKENS,
    body: options.body ?? {},
  };
}
