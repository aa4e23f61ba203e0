import * as tf from '@tensorflow/tfjs-core';
import { expMinusOne } from '../elementary.ts';

// as the original bounds the derivative of its root by 1000
const LEAST_ROOT = 5e-4;

/**
 * What a token is scaled by so that the state keeps its variance, `sqrt(1 - a^2)` for `a = exp(logDecay)`.
 *
 * It keeps its digits where a is close to 1. The gradient, `-a^2 / sqrt(1 - a^2)`, has its root bounded below by 5e-4.
 *
 * @param logDecay at most 0, any shape
 * @returns a new tensor of that shape
 */
export function writeScale(logDecay: tf.Tensor): tf.Tensor {
  return tf.tidy(() =>
    tf.customGrad((given, save) => {
      const twice = tf.mul(given as tf.Tensor, 2);
      const value = tf.sqrt(tf.neg(expMinusOne(twice)));
      const square = tf.exp(twice);
      // saved last: what is saved stays when the computation throws
      (save as tf.GradSaveFunc)([square, value]);
      return {
        value,
        gradFunc: (upstream: tf.Tensor, saved: tf.Tensor[]) =>
          tf.neg(tf.div(tf.mul(upstream, saved[0]!), tf.maximum(saved[1]!, LEAST_ROOT))),
      };
    })(logDecay),
  );
}
