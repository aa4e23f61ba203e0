import { fail, keepValid, layerEntries, positiveInteger, positiveNumber } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';

/** Config entries of the layers of a diagonal state space. */
export const diagonalEntries = {
  ...layerEntries,
  /** states, in S4D of each channel; an even number: half as many poles are stored */
  stateDim: v.optional(positiveInteger, 64),
  discretisation: v.optional(v.picklist(['zoh', 'bilinear']), 'zoh'),
  /** range of the step sizes at the start */
  stepMin: v.optional(positiveNumber, 1e-3),
  stepMax: v.optional(positiveNumber, 0.1),
  /** factor on the learning rate of steps, poles and, where it is learned, the input matrix */
  poleLearningRate: v.optional(positiveNumber, 0.1),
  pattern: v.optional(v.picklist(['causal-self', 'noncausal-self']), 'causal-self'),
  form: v.optional(v.picklist(['parallel', 'chunk', 'recurrent']), 'chunk'),
};

/** Half of an even number of states; refuses an odd one. */
export function halfOf(states: number, argument: string): number {
  if (states % 2 !== 0) {
    fail({
      mechanism: 's4d-s5-diagonal-ssm',
      argument,
      wanted: 'even: poles come in conjugate pairs',
      given: String(states),
      remedy: `Take ${states + 1}.`,
    });
  }
  return states / 2;
}

/** What a causal system reads of x [B, T, D] from its end: padding comes first from that side, where a state of zero passes it. */
export function readBackward(x: tf.Tensor, valid: tf.Tensor | null, read: (turned: tf.Tensor) => tf.Tensor): tf.Tensor {
  return tf.reverse(read(tf.reverse(keepValid(x, valid), 1)), 1);
}

/** The Gaussian error linear unit, `x Phi(x)`. */
export function gelu(x: tf.Tensor): tf.Tensor {
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1));
}
