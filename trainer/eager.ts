import * as tf from "../tensor/tfjs.js";

/**
 * Evaluates tfjs code at once on tfjs's cpu backend, frees every tensor it made, and leaves the caller's backend as it
 * was. `compute` must return plain values (`arraySync`), not tensors.
 */
export function onCpu<T extends object | number>(compute: () => T): T {
  tf.backend(); // chooses one if nobody has, so that there is something to go back to
  const before = tf.getBackend();
  // Both calls finish synchronously for backends that are already there; the promise only reports it.
  if (before !== "cpu") void tf.setBackend("cpu");
  // Only to keep tfjs's advertisement for its Node backend off stderr.
  const isProduction = tf.env().getBool("PROD");
  tf.env().set("PROD", true);
  try {
    let result: T | undefined;
    tf.tidy(() => {
      result = compute();
    });
    return result!;
  } finally {
    tf.env().set("PROD", isProduction);
    if (before !== "cpu") void tf.setBackend(before);
  }
}
