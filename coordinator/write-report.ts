/** Reports of an evaluation as files. */
import { replaceFile } from "../checkpoints/index.js";
import { ConfigError } from "../core/index.js";
import { evaluationPage } from "./evaluation-page.js";
import type { EvaluationReport } from "./evaluation-report.js";

/** @throws ConfigError for a name that ends neither in .html nor in .json */
export function checkReportName(file: string): void {
  if (/\.(html|json)$/.test(file)) return;
  throw new ConfigError({ at: "--report", got: file, need: "a file name that ends in .html or .json" });
}

/** Writes a report in the format of its name. */
export async function writeReport(file: string, report: EvaluationReport): Promise<void> {
  const text = file.endsWith(".html") ? evaluationPage(report) : `${JSON.stringify(report, null, 1)}\n`;
  await replaceFile(file, text);
}
