import * as tf from '@tensorflow/tfjs-core';

/**
 * Squared Euclidean norm over all tensors together, in float32, without reading anything back.
 *
 * @param tensors of any shapes; each counts once
 * @returns a scalar, owned by the caller
 */
export function squaredNorm(tensors: Iterable<tf.Tensor>): tf.Scalar {
  return tf.tidy(() => {
    const parts = Array.from(tensors, (tensor) => tf.reshape(tf.sum(tf.square(tensor)), [1]) as tf.Tensor1D);
    return (parts.length === 0 ? tf.scalar(0) : tf.sum(tf.concat1d(parts))) as tf.Scalar;
  });
}

/**
 * Factor that brings a gradient of this norm down to at most `maximum`: `min(1, maximum / (norm + 1e-6))`.
 *
 * @param maximum null for no clipping
 */
export function clipScale(norm: number, maximum: number | null): number {
  return maximum === null ? 1 : Math.min(1, maximum / (norm + 1e-6));
}
