import * as tf from '@tensorflow/tfjs-core';

/**
 * Sinusoids of distances, `[sin(delta f), cos(delta f)]` with `f_i = 10000^(-2 i / dim)`, sines first, then cosines.
 *
 * @param count rows, for the distances count - 1 down to 0
 * @param dim width; the last channel of an odd width is left out
 * @param clamp larger distances count as this one; null: none does
 * @returns [count, dim], the caller's
 */
export function distanceEmbedding(count: number, dim: number, clamp: number | null): tf.Tensor2D {
  const half = Math.ceil(dim / 2);
  const table = new Float32Array(count * dim);
  for (let row = 0; row < count; row++) {
    const distance = Math.min(count - 1 - row, clamp ?? Infinity);
    for (let channel = 0; channel < dim; channel++) {
      const angle = distance * 10000 ** ((-2 * (channel % half)) / dim);
      table[row * dim + channel] = channel < half ? Math.sin(angle) : Math.cos(angle);
    }
  }
  return tf.tensor2d(table, [count, dim]);
}
