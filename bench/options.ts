import { parseArgs } from "node:util";
import type { Cell, TableName } from "./cells.js";
import { POLICIES } from "./policies.js";

export interface Options {
  readonly tables: readonly TableName[];
  readonly policies: readonly string[];
  readonly run: Cell["run"];
  readonly rounds: number;
  readonly isFresh: boolean;
  readonly isJson: boolean;
  /** Options of one benchmark alone. */
  readonly extra: Readonly<Record<string, string | boolean | undefined>>;
}

function refuse(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}

/** A list of known words, with commas between. */
function listed<T extends string>(option: string, text: string, known: readonly T[]): T[] {
  const words = text.split(",");
  const wrong = words.find((word) => !known.includes(word as T));
  if (wrong === undefined) return words as T[];
  return refuse(`--${option}: got "${wrong}", need one or more of ${known.join(",")}`);
}

/** Reads the command line; ends the process with 2 where it is wrong, with 0 after `--help`. */
export function readOptions(
  help: string,
  tables: readonly TableName[],
  extra: readonly string[] = [],
): Options {
  const { values } = parsed(help, tables, extra);
  if (values.help) {
    process.stdout.write(help);
    process.exit(0);
  }
  const rounds = Number(values.rounds ?? (values.quick ? 2 : 3));
  if (!Number.isInteger(rounds) || rounds < 1)
    refuse(`--rounds: got "${values.rounds}", need a whole number of 1 or more`);
  return {
    tables: listed("only", String(values.only), tables),
    policies: listed("policies", String(values.policies), Object.keys(POLICIES)),
    run: values.quick ? "quick" : values.long ? "long" : "usual",
    rounds,
    isFresh: values.fresh === true,
    isJson: values.json === true,
    extra: values as Options["extra"],
  };
}

function parsed(help: string, tables: readonly TableName[], extra: readonly string[]) {
  try {
    return parseArgs({
      options: {
        only: { type: "string", default: tables.join() },
        policies: { type: "string", default: "1M,10M,100M" },
        quick: { type: "boolean", default: false },
        long: { type: "boolean", default: false },
        rounds: { type: "string" },
        fresh: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
        ...Object.fromEntries(extra.map((name) => [name, { type: "string" as const }])),
      },
    });
  } catch (error) {
    return refuse(`${(error as Error).message}\n${help}`);
  }
}
