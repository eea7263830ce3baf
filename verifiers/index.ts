export type { LanguageCheck } from "./check-languages.js";
export { checkLanguages } from "./check-languages.js";
export { sameOutput } from "./comparators.js";
export { VerifierConfig } from "./config.js";
export { extractProgram } from "./extract.js";
export type { FeedbackOptions } from "./feedback.js";
export { cleanMessage, testFeedback } from "./feedback.js";
export type { Isolation } from "./job.js";
export type { Language, LanguageSet } from "./languages.js";
export {
  LanguageFile,
  LanguageLimits,
  languageSet,
  loadLanguages,
  parseLanguage,
  readLanguage,
} from "./languages.js";
export type { LocalPool, LocalPoolOptions, PoolStats, Submission, VerifierPool } from "./pool.js";
export { createLocalPool } from "./pool.js";
export type { ProgramToRun } from "./run-program.js";
export { runInteractive, runProgram } from "./run-program.js";
export { formatTestFeedback } from "./sdpo-feedback.js";
export type { SupervisorBuild } from "./supervisor-build.js";
export { buildSupervisor } from "./supervisor-build.js";
