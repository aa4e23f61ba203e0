import * as tf from '@tensorflow/tfjs-core';

const selections = new Map<number, Float32Array>();

// one row per summand l, one column per pair (i, j): 1 where j < l <= i
function selection(size: number): tf.Tensor2D {
  let values = selections.get(size);
  if (!values) {
    values = new Float32Array(size ** 3);
    for (let l = 0; l < size; l++) {
      for (let i = l; i < size; i++) for (let j = 0; j < l; j++) values[(l * size + i) * size + j] = 1;
    }
    selections.set(size, values);
  }
  return tf.tensor2d(values, [size, size * size]);
}

/**
 * Sums over segments, s_ij = x_{j+1} + ... + x_i for i > j and 0 elsewhere: exponents of decay from token j to token i.
 *
 * Each entry is a sum of its own terms, never the difference of two running sums, so nothing cancels however long the decay.
 *
 * @param values [M, C], finite; C is a chunk length (the sum costs C^3 per row)
 * @returns [M, C, C]
 */
export function segmentSum(values: tf.Tensor2D): tf.Tensor3D {
  return tf.tidy(() => {
    const [count, size] = values.shape;
    return tf.reshape(tf.matMul(values, selection(size)), [count, size, size]);
  });
}

/**
 * The adjoint of `segmentSum`: the gradient of x given that of s, dx_l = sum over j < l <= i of ds_ij.
 *
 * @param gradient [M, C, C]; entries with i <= j are not read
 * @returns [M, C]
 */
export function segmentSumGradient(gradient: tf.Tensor3D): tf.Tensor2D {
  return tf.tidy(() => {
    const size = gradient.shape[1];
    const given = tf.mul(gradient, triangleOfOnes(size, 'strictly-lower'));
    const before = tf.cumsum(given, 2, true); // [M, i, l]: sum over j < l
    return tf.sum(tf.mul(before, triangleOfOnes(size, 'lower')), 1);
  });
}

/** The triangles that a chunk needs as constants. */
export type Triangle = 'lower' | 'strictly-lower' | 'upper';

/**
 * A triangle of ones, each row repeated `repeat` times.
 *
 * @param size rows and columns before repetition
 * @param triangle `lower`: column <= row; `strictly-lower`: column < row; `upper`: column >= row
 * @returns [size * repeat, size]
 */
export function triangleOfOnes(size: number, triangle: Triangle, repeat = 1): tf.Tensor2D {
  const values = new Float32Array(size * repeat * size);
  for (let row = 0; row < size * repeat; row++) {
    const i = Math.floor(row / repeat);
    for (let j = 0; j < size; j++) {
      const inside = triangle === 'lower' ? j <= i : triangle === 'strictly-lower' ? j < i : j >= i;
      if (inside) values[row * size + j] = 1;
    }
  }
  return tf.tensor2d(values, [size * repeat, size]);
}
