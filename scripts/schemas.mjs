/** Writes configs/*.schema.json from the built schemas: `npm run schemas`, after a change to any of them. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { build, root } from "./build.mjs";

build();
const { SCHEMAS, schemaText } = await import(
  pathToFileURL(join(root, "dist", "coordinator", "schemas.js")).href
);
for (const name of Object.keys(SCHEMAS)) {
  writeFileSync(join(root, "configs", `${name}.schema.json`), schemaText(name));
}
