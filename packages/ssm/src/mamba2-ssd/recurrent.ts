import * as tf from '@tensorflow/tfjs-core';
import { matrixPerHead } from './chunk.ts';
import type { DualityReads, DualitySteps } from './chunk.ts';

/** The recurrent form, token by token: `h <- exp(Delta A) h + B (Delta x)^T`, `y = h^T C`. */
export function recurrentForm({ drive, logDecay, inputMatrix, outputMatrix, memory }: DualitySteps): DualityReads {
  const [batch, heads, states, width] = memory.shape as [number, number, number, number];
  const [drives, matricesIn, matricesOut] = [drive, matrixPerHead(inputMatrix, heads), matrixPerHead(outputMatrix, heads)].map((part) =>
    tf.unstack(part, 1),
  ) as [tf.Tensor[], tf.Tensor[], tf.Tensor[]];
  let state = memory;
  const outputs = tf.unstack(tf.exp(logDecay), 1).map((decay, t) => {
    const written = tf.mul(tf.reshape(matricesIn[t]!, [batch, heads, states, 1]), tf.reshape(drives[t]!, [batch, heads, 1, width]));
    state = tf.add(tf.mul(tf.reshape(decay, [batch, heads, 1, 1]), state), written); // [B, H, N, P]
    return tf.sum(tf.mul(state, tf.reshape(matricesOut[t]!, [batch, heads, states, 1])), 2);
  });
  return { output: tf.stack(outputs, 1), memory: state };
}
