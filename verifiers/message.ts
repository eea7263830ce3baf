/**
 * Messages of compilers, interpreters and checkers, made fit to learn from: the same from run to run and from machine to
 * machine. Paths of the tools become their last names, and addresses, process numbers, dates and durations go.
 */
import { cutMiddle } from "./cut.js";
import type { Language } from "./languages.js";

export const MESSAGE_CHARS = 700;

/** What is known of the tool that speaks. */
export interface Speaker {
  readonly messages?: Language["messages"];
  readonly mounts?: readonly string[];
}

const PATH_WORD = "[\\w.+@~-]+";
const ROOTS = "usr|lib|lib32|lib64|bin|sbin|opt|etc|var|home|root|nix|snap|rustc|cache|build|buildworker";
const MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)";
const CLOCK = "\\d{1,2}:\\d\\d:\\d\\d(?:[.,]\\d+)?";

/** In this order. */
const RULES: readonly (readonly [RegExp, string])[] = [
  // Colours, which a tool may print although nobody looks.
  [/\x1b\[[0-9;?]*[A-Za-z]/g, ""],
  // Names that differ each time: objects of gcc and ocamlopt between compiler and linker, Python's tempfile.
  [/\/tmp\/(?:cc|camlasm|camlstartup)\w{6}(?=\.)/g, "program"],
  [/\/tmp\/tmp\w{8}\b/g, "tmp..."],
  [new RegExp(`(?<![\\w.~-])(?:file://)?/(?:w|tmp)/+(?:(?<=/tmp/)(?:${PATH_WORD}/)+)?(?=[\\w.+-])`, "g"), ""],
  [new RegExp(`(?<![\\w.~/-])(?:file://)?/(?:${ROOTS})(?:/${PATH_WORD})*/(?=${PATH_WORD})`, "g"), ""],
  [/\b0x[0-9a-fA-F]{5,}/g, "0x..."],
  [/(?<=[\w$\]])@[0-9a-f]{6,8}\b/g, "@..."],
  [/\(node:\d+\)/g, "(node)"],
  [/(line \d+:) +\d+ (?=[A-Z])/g, "$1 "], // bash: main.sh: line 3: 17 Segmentation fault
  [/\b(pid|PID)([ =:#]+)\d+/g, "$1$2..."],
  [/^\[\d+\] (?=signal)/gm, ""], // julia
  [/<0\.\d+\.\d+>/g, "<0...>"], // erlang
  [/(thread '[^'\n]*') \(\d+\)/g, "$1"], // rust
  [new RegExp(`^\\[?\\d{4}[-/]\\d\\d[-/]\\d\\d[T ]${CLOCK}(?:Z|[+-]\\d\\d:?\\d\\d)?\\]?:? ?`, "gm"), ""],
  [new RegExp(`^${CLOCK} (?=\\[)`, "gm"), ""], // elixir
  [new RegExp(`\\b\\d{1,2}-${MONTH}-\\d{4}::${CLOCK}`, "g"), "..."], // erlang
  [/\b(in|took|after) \d+(?:\.\d+)? ?(?:ns|us|µs|ms|s|sec|seconds?)\b/g, "$1 ... s"],
];

/** @param chars - budget; what is over it is cut out of the middle */
export function cleanMessage(raw: string, speaker: Speaker, chars = MESSAGE_CHARS): string {
  return cutMiddle(cleaned(raw, speaker), chars);
}

/** The first error comes first where there is room for few: what stands before it is mostly warnings. */
export function compilerMessage(raw: string, speaker: Speaker, chars = MESSAGE_CHARS): string {
  const text = cleaned(raw, speaker);
  if (text.length <= chars) return text;
  const lines = text.split("\n");
  const first = lines.findIndex((line) => /\berror\b/i.test(line));
  // OCaml and Fortran show the place, then the source, then what is wrong.
  const skipped = lines.slice(0, Math.max(0, first - LINES_BEFORE_ERROR));
  return cutMiddle(
    skipped.join("\n").length > chars / 4 ? lines.slice(skipped.length).join("\n") : text,
    chars,
  );
}
const LINES_BEFORE_ERROR = 5;

function cleaned(raw: string, { messages, mounts = [] }: Speaker): string {
  let lines = raw.replaceAll("\r", "").split("\n");
  const { until, remove = [] } = messages ?? {};
  const stop = until === undefined ? -1 : lines.findIndex((line) => new RegExp(until).test(line));
  if (stop >= 0) lines = lines.slice(0, stop);
  let text = lines.join("\n");
  for (const pattern of remove) text = text.replace(new RegExp(pattern, "gm"), "");
  for (const mount of mounts)
    text = text.replaceAll(new RegExp(`${escaped(mount)}(?:/${PATH_WORD})*/`, "g"), "");
  for (const [pattern, to] of RULES) text = text.replace(pattern, to);
  return visible(text)
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n")
    .replace(/\n{3,}/g, "\n\n")
    .trim();
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Control characters as Python would write them, for the eye sees none; lone surrogates become U+FFFD. */
export function visible(text: string): string {
  return Buffer.from(text, "utf8")
    .toString("utf8")
    .replaceAll("\r", "\\r")
    .replace(/[^\P{Cc}\n\t]/gu, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`);
}
