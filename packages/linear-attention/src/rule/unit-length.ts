import { rmsNorm } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';

const EPSILON = 1e-6;

/**
 * Scales the last axis to length one, `y = x / sqrt(sum(x^2) + 1e-6)`: what keeps the delta rules from growing without bound.
 *
 * @param x float32 [..., D]
 * @returns a new tensor of that shape, owned by the caller; zeros stay zeros
 */
export function unitLength<T extends tf.Tensor>(x: T): T {
  return tf.tidy(() => {
    const width = x.shape.at(-1)!;
    // the mean in the place of the sum takes a factor of D out of the epsilon and of sqrt(D) out of the result
    return tf.mul(rmsNorm({ input: x }, { epsilon: EPSILON / width }), width ** -0.5);
  });
}
