import { softplus } from '@seqloom/core';
import type { Initialiser } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';

/** Fills logs of rates that are uniform in [lowest, highest), kept away from the log of zero. */
export function logRates(lowest: number, highest: number): Initialiser {
  return (shape, random) =>
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () =>
      Math.log(Math.max(2 ** -20, lowest + (highest - lowest) * random.uniform())),
    );
}

/** Fills biases whose softplus is log-uniform in [0.001, 0.1): the step sizes of Mamba-2. */
export const stepBiases: Initialiser = (shape, random) =>
  Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    const step = 0.001 * 100 ** random.uniform();
    // the inverse of softplus
    return step + Math.log(-Math.expm1(-step));
  });

/**
 * The decay of a token, `g = -exp(logRate) softplus(x + stepBias)`, at most 0.
 *
 * @param x projected input, float32
 * @param logRate log of the rate, broadcast against x
 * @param stepBias broadcast against x
 * @returns log decays of the shape of x, owned by the caller
 * @see Dao & Gu 2024 (Mamba-2), whose gate it is
 */
export function decayGate(x: tf.Tensor, logRate: tf.Tensor, stepBias: tf.Tensor): tf.Tensor {
  return tf.tidy(() => tf.neg(tf.mul(tf.exp(logRate), softplus(tf.add(x, stepBias)))));
}
