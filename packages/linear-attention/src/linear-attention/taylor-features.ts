import * as tf from '@tensorflow/tfjs-core';

/** Number of second-order Taylor features of `width` channels: 1 + d + d^2, or 1 + d + d (d + 1) / 2 when each product is kept once. */
export function taylorFeatureDim(width: number, symmetric: boolean): number {
  return 1 + width + (symmetric ? (width * (width + 1)) / 2 : width * width);
}

/**
 * Second-order Taylor features of exp: `phi(q) phi(k) = 1 + u + u^2 / 2` with `u = q k / sqrt(d)`.
 *
 * `phi(x) = [1, x / d^(1/4), (x outer x) / (sqrt(2) sqrt(d))]`; symmetric: x_i^2 / (sqrt(2) sqrt(d)) and x_i x_j / sqrt(d) for i < j.
 *
 * @param x float32 [..., d]
 * @returns [..., F], owned by the caller
 */
export function taylorFeatures(x: tf.Tensor, symmetric: boolean): tf.Tensor {
  return tf.tidy(() => {
    const width = x.shape.at(-1)!;
    const flat = tf.reshape(x, [-1, width]) as tf.Tensor2D;
    const rows = flat.shape[0];
    const first = tf.div(flat, width ** 0.25);
    const pairs = symmetric
      ? orderedPairs(flat)
      : tf.reshape(tf.mul(tf.expandDims(first, 2), tf.expandDims(first, 1)), [rows, width * width]);
    const second = symmetric ? pairs : tf.div(pairs, Math.SQRT2);
    return tf.reshape(tf.concat([tf.ones([rows, 1]), first, second], 1), [...x.shape.slice(0, -1), taylorFeatureDim(width, symmetric)]);
  });
}

// x_i x_j / sqrt(d) for i <= j, the squares divided by sqrt(2); two products with 0/1 matrices are faster than many slices
function orderedPairs(x: tf.Tensor2D): tf.Tensor2D {
  const width = x.shape[1];
  const count = (width * (width + 1)) / 2;
  const left = new Float32Array(width * count);
  const right = new Float32Array(width * count);
  let pair = 0;
  for (let i = 0; i < width; i++) {
    for (let j = i; j < width; j++, pair++) {
      left[i * count + pair] = (i === j ? Math.SQRT1_2 : 1) / Math.sqrt(width);
      right[j * count + pair] = 1;
    }
  }
  return tf.mul(tf.matMul(x, tf.tensor2d(left, [width, count])), tf.matMul(x, tf.tensor2d(right, [width, count])));
}
