import * as tf from '@tensorflow/tfjs-core';

/**
 * A linear map that keeps blocks of channels apart: `y_h = x_h W_h + b_h` for the h-th of H equal slices of x.
 *
 * @param x [B, T, W]
 * @param weight [H, W / H, W / H], from inputs to outputs
 * @param bias [H, W / H]
 * @returns [B, T, W]
 */
export function blockLinear(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor): tf.Tensor {
  return tf.tidy(() => {
    const [blocks, width] = weight.shape as [number, number];
    const rows = x.size / (blocks * width);
    const apart = tf.transpose(tf.reshape(x, [rows, blocks, width]), [1, 0, 2]); // [H, B * T, W / H]
    const mapped = tf.add(tf.matMul(apart, weight), tf.reshape(bias, [blocks, 1, width]));
    return tf.reshape(tf.transpose(mapped, [1, 0, 2]), x.shape);
  });
}
