import * as tf from "../tensor/tfjs.js";

/** Coefficients of x -> a x + b x^3 + c x^5, chosen to push small singular values up fast. */
const [A, B, C] = [3.4445, -4.775, 2.0315];
const STEPS = 5;

/**
 * About the nearest matrix with orthonormal rows or columns: five Newton-Schulz steps send every singular value that is
 * not tiny to between 0.7 and 1.2. Only products, so it runs where the gradient is.
 * @param matrix - [M, N]
 * @see Jordan et al. 2024, kellerjordan.github.io/posts/muon
 */
export function orthogonalise(matrix: tf.Tensor2D): tf.Tensor2D {
  const [rows, columns] = matrix.shape;
  const isTall = rows > columns;
  const wide = isTall ? tf.transpose(matrix) : matrix; // the smaller side squared is cheaper
  const size = tf.add(tf.sqrt(tf.sum(tf.mul(wide, wide))), 1e-7);
  let x: tf.Tensor2D = tf.div(wide, size);
  for (let step = 0; step < STEPS; step++) {
    const gram = tf.matMul(x, x, false, true);
    const polynomial = tf.add(tf.mul(gram, B), tf.mul(tf.matMul(gram, gram), C)) as tf.Tensor2D;
    x = tf.add(tf.mul(x, A), tf.matMul(polynomial, x));
  }
  return isTall ? tf.transpose(x) : x;
}

/**
 * Muon on one hidden matrix of layout [out, in]: Nesterov momentum, orthogonalised, scaled by sqrt(max(1, out / in)).
 * The scale keeps the change of an output unit the same where a matrix has more outputs than inputs; in the other
 * layout, x W with W [in, out], the same number reads sqrt(max(1, columns / rows)).
 * @returns the new weight and momentum
 */
export function muon(
  parameter: { weight: tf.Tensor2D; gradient: tf.Tensor2D; momentum: tf.Tensor2D },
  lr: tf.Scalar,
  beta: number,
  weightDecay: number,
): { weight: tf.Tensor2D; momentum: tf.Tensor2D } {
  const { weight, gradient } = parameter;
  const momentum = tf.add(tf.mul(parameter.momentum, beta), tf.mul(gradient, 1 - beta)) as tf.Tensor2D;
  const ahead = tf.add(tf.mul(momentum, beta), tf.mul(gradient, 1 - beta)) as tf.Tensor2D;
  const [out, into] = weight.shape;
  const direction = tf.mul(orthogonalise(ahead), Math.sqrt(Math.max(1, out / into)));
  const change = weightDecay === 0 ? direction : tf.add(direction, tf.mul(weight, weightDecay));
  return { weight: tf.sub(weight, tf.mul(lr, change)), momentum };
}

/**
 * Which parameters Muon trains: the matrices of the layers. Embedding and head are tables of tokens, not maps between
 * spaces; AdamW trains them, the norms and the biases.
 */
export function isHiddenMatrix(name: string, shape: readonly number[]): boolean {
  return shape.length === 2 && !/(^|\.)(embed_tokens|lm_head)\./.test(name);
}
