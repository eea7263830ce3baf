import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import { type Case, GROUPS } from "./hostile.js";

const listed = (statuses: Case["want"] | undefined): string =>
  statuses === undefined ? "" : [statuses].flat().join(", ");

/** A row: the test's name, its verdict, the verdict without a control group, what the fallback lacks. */
const row = (one: Case): string =>
  `| ${one.name} | ${listed(one.want)} | ${listed(one.withoutCgroup)} | ${one.onlySupervisor ?? ""} |`;

test("docs/sandbox.md lists every attack of the suite with its verdicts, and none that is not there", () => {
  const text = readFileSync(join(packageRoot, "docs", "sandbox.md"), "utf8");
  const rows = text
    .split("\n")
    .filter((line) => /^\| (?!test |---)/.test(line) && line.split("|").length === 6);
  const expected = Object.values(GROUPS).flatMap((cases) => cases.map(row));
  expect(rows).toEqual(expected);
});
