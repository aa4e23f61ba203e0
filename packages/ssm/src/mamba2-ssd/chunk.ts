import { linearAttentionUpdate } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';

/** What every form reads, all float32; at padding `drive` and `logDecay` are 0. */
export interface DualitySteps {
  /** Delta x, [B, T, H, P] */
  readonly drive: tf.Tensor;
  /** Delta A, at most 0, [B, T, H] */
  readonly logDecay: tf.Tensor;
  /** B, [B, T, G, N] */
  readonly inputMatrix: tf.Tensor;
  /** C, [B, T, G, N] */
  readonly outputMatrix: tf.Tensor;
  /** [B, H, N, P] */
  readonly memory: tf.Tensor;
}

/** What every form returns. */
export type DualityReads = { output: tf.Tensor; memory: tf.Tensor };

/**
 * The chunked form: the gated rule of the `LinearAttention` kernel with query C, key B and value Delta x,
 * `h_t = exp(Delta A) h_{t-1} + B (Delta x)^T`, `y_t = h_t^T C`.
 *
 * @param chunkSize tokens per chunk; a matter of speed
 */
export function chunkForm({ drive, logDecay, inputMatrix, outputMatrix, memory }: DualitySteps, chunkSize: number): DualityReads {
  const heads = drive.shape[2]!;
  const { output, state } = linearAttentionUpdate(
    { query: matrixPerHead(outputMatrix, heads), key: matrixPerHead(inputMatrix, heads), value: drive, logDecay, state: memory },
    { updateRule: 'gated', scale: 1, chunkSize },
  );
  return { output, memory: state };
}

/** Hands the matrix of each group [B, T, G, N] to the heads that share it, [B, T, H, N]: head h reads group floor(h G / H). */
export function matrixPerHead(matrix: tf.Tensor, heads: number): tf.Tensor {
  const [batch, length, groups, states] = matrix.shape as [number, number, number, number];
  if (groups === heads) return matrix;
  // adding to zeros repeats much faster than a tile does
  const repeated = tf.add(tf.reshape(matrix, [batch * length * groups, 1, states]), tf.zeros([1, heads / groups, states]));
  return tf.reshape(repeated, [batch, length, heads, states]);
}
