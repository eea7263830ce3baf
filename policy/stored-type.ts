/** `source`: each weight in the type that it was published in. */
export const STORED_TYPES = ["source", "float32", "bfloat16", "float16"] as const;
export type StoredType = (typeof STORED_TYPES)[number];
