import * as tf from '@tensorflow/tfjs-core';
import type { MemoryPiece } from './carry.ts';

/** How the tokens of a piece reach one another: factors of the closed form. */
export interface Mixing {
  /** B_t, share of the weights before the piece that is left after token t [N, C, 1] */
  readonly kept: tf.Tensor;
  /** c_t, how often the momentum before the piece has been added up to token t [N, C, 1]; null without momentum */
  readonly carried: tf.Tensor | null;
  /** Omega_ti theta_i, how much token i has moved the weights up to token t [N, C, C] */
  readonly moved: tf.Tensor;
  /** product of eta after token i, times theta_i, at the last token [N, C, 1]; null without momentum */
  readonly pushed: tf.Tensor | null;
  /** P_C, share of the momentum before the piece that is left [N, 1, 1]; null without momentum */
  readonly momentumLeft: tf.Tensor | null;
}

// [C, C] of ones: `column <= row`, or `column < row` turned over
function ones(size: number, strict: boolean): tf.Tensor2D {
  const values = new Float32Array(size * size);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) if (strict ? row > column : row >= column) values[row * size + column] = 1;
  }
  return tf.tensor2d(values, [size, size]);
}

// exp(x_{i+1} + ... + x_t) for i <= t, zero above; every exponent is a sum of its own terms
function products(logs: tf.Tensor): tf.Tensor {
  const [count, size] = logs.shape as [number, number];
  const lower = ones(size, false);
  const terms = tf.reshape(tf.mul(tf.reshape(logs, [count, 1, size]), lower), [count * size, size]);
  const sums = tf.reshape(tf.matMul(terms, ones(size, true)), [count, size, size]);
  return tf.mul(tf.exp(sums), lower);
}

/**
 * The factors of a piece's closed form: with `Omega = D V E`, D and E the products of (1 - alpha) and of eta from token to token and V the
 * mask, token t sees `B_t W + c_t S - sum_i Omega_ti theta_i u_i`.
 */
export function mixingOf({ stepSize, logDecay, logMomentum, valid }: Omit<MemoryPiece, 'query' | 'key' | 'value'>): Mixing {
  const [count, size] = stepSize.shape as [number, number];
  const decay = products(logDecay); // [N, C, C]
  const kept = tf.reshape(tf.exp(tf.cumsum(logDecay, 1)), [count, size, 1]);
  const steps = tf.reshape(stepSize, [count, 1, size]);
  if (!logMomentum) return { kept, carried: null, moved: tf.mul(decay, steps), pushed: null, momentumLeft: null };
  const momentum = products(logMomentum);
  const left = tf.reshape(tf.exp(tf.cumsum(logMomentum, 1)), [count, size, 1]);
  // a padded token adds no momentum to the weights
  const adding = valid ? tf.mul(decay, tf.reshape(valid, [count, 1, size])) : decay;
  const last = tf.slice(momentum, [0, size - 1, 0], [count, 1, size]);
  return {
    kept,
    carried: tf.matMul(adding, left),
    moved: tf.mul(tf.matMul(adding, momentum), steps),
    pushed: tf.reshape(tf.mul(last, steps), [count, size, 1]),
    momentumLeft: tf.slice(left, [0, size - 1, 0], [count, 1, 1]),
  };
}
