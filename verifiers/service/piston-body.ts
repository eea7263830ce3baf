/** What a request to Piston's /execute says, checked in the order and in the words in which Piston checks it. */
import { RequestError } from "./request-error.js";

const LIMITS = [
  "compile_memory_limit",
  "run_memory_limit",
  "compile_timeout",
  "run_timeout",
  "compile_cpu_time",
  "run_cpu_time",
] as const;

export interface PistonBody {
  readonly language: string;
  readonly version: string;
  /** The first is the program. */
  readonly files: readonly { readonly name: string; readonly bytes: Buffer }[];
  readonly stdin: string;
  readonly args: readonly string[];
  /** Milliseconds and bytes; 0 and null count as not said. */
  readonly limits: Readonly<Partial<Record<(typeof LIMITS)[number], number>>>;
}

const refuse = (message: string): never => {
  throw new RequestError(400, "invalid", message);
};

/** @throws RequestError 400 */
export function readPistonBody(raw: unknown): PistonBody {
  const body = (typeof raw === "object" && raw !== null ? raw : {}) as Record<string, unknown>;
  const { language, version, files, stdin = "", args = [] } = body;
  if (typeof language !== "string" || language === "") return refuse("language is required as a string");
  if (typeof version !== "string" || version === "") return refuse("version is required as a string");
  if (!Array.isArray(files)) return refuse("files is required as an array");
  if (files.length === 0) return refuse("files must include at least one utf8 encoded file");
  if (stdin !== null && typeof stdin !== "string") return refuse("stdin must be a string");
  if (!isTexts(args)) return refuse("args must be an array of strings");
  return {
    language,
    version,
    files: files.map(readFile),
    stdin: stdin ?? "",
    args,
    limits: readLimits(body),
  };
}

const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((each) => typeof each === "string");

function readFile(raw: unknown, i: number): PistonBody["files"][number] {
  const { name, content, encoding } = (raw ?? {}) as Record<string, unknown>;
  if (typeof content !== "string") return refuse(`files[${i}].content is required as a string`);
  if (name !== undefined && name !== null && typeof name !== "string")
    return refuse(`files[${i}].name must be a string`);
  const isBytes = encoding === "base64" || encoding === "hex";
  if (i === 0 && isBytes) return refuse("the first file is the program and must be utf8 encoded");
  return { name: name ?? "", bytes: Buffer.from(content, isBytes ? encoding : "utf8") };
}

function readLimits(body: Record<string, unknown>): PistonBody["limits"] {
  const limits: Partial<Record<(typeof LIMITS)[number], number>> = {};
  for (const key of LIMITS) {
    const value = body[key];
    if (value === undefined || value === null || value === 0) continue;
    if (typeof value !== "number") return refuse(`If specified, ${key} must be a number`);
    if (value < 0) return refuse(`${key} must be non-negative`);
    limits[key] = value;
  }
  return limits;
}
