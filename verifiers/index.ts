export type { Backend } from "./backend.js";
export { BACKENDS } from "./backend.js";
export type { LanguageCheck } from "./check-languages.js";
export { checkLanguages, judgeTrial } from "./check-languages.js";
export { sameOutput } from "./comparators.js";
export { RedisConfig, VerifierConfig } from "./config.js";
export { extractProgram } from "./extract.js";
export type { FeedbackOptions } from "./feedback.js";
export { testFeedback } from "./feedback.js";
export type { Isolation } from "./job.js";
export type { ExampleKind } from "./language-examples.js";
export {
  EXAMPLE_KINDS,
  examplesFile,
  LanguageExample,
  LanguageExamples,
  readExamples,
} from "./language-examples.js";
export type { LanguageSet } from "./language-set.js";
export { languageSet, loadLanguages } from "./language-set.js";
export type { Language } from "./languages.js";
export {
  imageOf,
  installHint,
  LanguageFile,
  LanguageLimits,
  parseLanguage,
  readLanguage,
} from "./languages.js";
export { cleanMessage } from "./message.js";
export type { LocalPool, LocalPoolOptions, PoolStats, Submission, VerifierPool } from "./pool.js";
export { createLocalPool } from "./pool.js";
export type { ProgramFile } from "./program-files.js";
export { recordExamples } from "./record-examples.js";
export { Requirements, readRequirements, shortcomings } from "./requirements.js";
export type { ProgramToRun } from "./run-program.js";
export { runInteractive, runProgram } from "./run-program.js";
export { searchPath } from "./sandbox.js";
export { formatTestFeedback } from "./sdpo-feedback.js";
export type { SupervisorBuild } from "./supervisor-build.js";
export { buildSupervisor } from "./supervisor-build.js";
export type { ExampleTrial, LanguageTrial } from "./try-language.js";
export { tryLanguage } from "./try-language.js";
