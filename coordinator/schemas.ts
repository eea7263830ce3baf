/** JSON Schemas of the files that people write, for editors and for `retort config schema`. */
import { z } from "zod";
import { Task } from "../core/index.js";
import { LanguageFile } from "../verifiers/languages.js";
import { RunConfig } from "./config.js";

export const SCHEMAS = { run: RunConfig, language: LanguageFile, task: Task } as const;
export type SchemaName = keyof typeof SCHEMAS;

/** The schema as a file's text; `configs/NAME.schema.json` is this, checked in. */
export const schemaText = (of: SchemaName): string =>
  `${JSON.stringify(z.toJSONSchema(SCHEMAS[of], { io: "input", unrepresentable: "any", reused: "inline" }), null, 2)}\n`;
