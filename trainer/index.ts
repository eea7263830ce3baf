export {
  ADVANTAGE_ESTIMATORS,
  type AdvantageEstimator,
  groupAdvantages,
  rewardsAgree,
} from "./advantages.js";
export { AGGREGATIONS, type Aggregation, aggregate } from "./aggregation.js";
export {
  type DistillationInputs,
  distillationLoss,
  type PolicyGradientInputs,
  policyGradientLoss,
} from "./eager-losses.js";
export { UNCOLLECTED_BYTES } from "./layered/offloaded-step.js";
export {
  createLearner,
  type Learner,
  type LearnerOptions,
  NonFiniteUpdateError,
  type UpdateRequest,
} from "./learner.js";
export { type LearnerState, type StateTensor, stateShapes } from "./learner-state.js";
export { learningRateScale } from "./learning-rate.js";
export {
  GrpoConfig,
  hasPolicyGradient,
  hasTeacher,
  MixConfig,
  ObjectiveConfig,
  type PolicyGradientConfig,
  RaftConfig,
  SdpoConfig,
  type SelfDistillationConfig,
  SftConfig,
} from "./objective-config.js";
export { AdamwConfig, MuonConfig, OptimizerConfig } from "./optimizer-config.js";
export { isOffloaded } from "./place-state.js";
export {
  loadRewardFunction,
  type RewardFunction,
  type RewardInput,
  type RewardModule,
  type RewardOutcome,
} from "./reward-function.js";
export {
  type Attempt,
  type SelfTeacherMetrics,
  type SelfTeacherOptions,
  selfTeacherMetrics,
  type TeacherContext,
  teacherContexts,
} from "./self-teacher.js";
export {
  encodeTeacherPrompt,
  type RepromptTemplates,
  SDPO_TEMPLATES,
  type TeacherPromptParts,
  teacherPrompt,
} from "./teacher-prompt.js";
export { decoderModel, type TrainableModel } from "./trainable-model.js";
export type { UpdateMetrics } from "./update-metrics.js";
