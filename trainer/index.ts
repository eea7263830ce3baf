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
export {
  GrpoConfig,
  hasTeacher,
  MixConfig,
  ObjectiveConfig,
  RaftConfig,
  SdpoConfig,
  SftConfig,
} from "./objective-config.js";
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
