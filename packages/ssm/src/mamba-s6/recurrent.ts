import * as tf from '@tensorflow/tfjs-core';
import type { SelectiveReads, SelectiveSteps } from './chunk.ts';

/** The recurrent form, token by token: `h <- exp(delta A) h + (delta x) B`, `y = sum_n C h`. */
export function recurrentForm({ input, delta, transition, inputMatrix, outputMatrix, memory }: SelectiveSteps): SelectiveReads {
  const [batch, , channels] = input.shape as [number, number, number];
  const [groups, states] = inputMatrix.shape.slice(2) as [number, number];
  const width = channels / groups;
  const rate = tf.reshape(transition, [groups, width, states]);
  const column = (part: tf.Tensor): tf.Tensor => tf.reshape(part, [batch, groups, width, 1]);
  const row = (part: tf.Tensor): tf.Tensor => tf.reshape(part, [batch, groups, 1, states]);
  const [inputs, matricesIn, matricesOut] = [input, inputMatrix, outputMatrix].map((part) => tf.unstack(part, 1)) as [
    tf.Tensor[],
    tf.Tensor[],
    tf.Tensor[],
  ];
  let state: tf.Tensor = tf.reshape(memory, [batch, groups, width, states]);
  const outputs = tf.unstack(delta, 1).map((now, t) => {
    const step = column(now);
    const drive = tf.mul(tf.mul(step, column(inputs[t]!)), row(matricesIn[t]!));
    state = tf.add(tf.mul(tf.exp(tf.mul(step, rate)), state), drive); // [B, G, C / G, N]
    return tf.reshape(tf.sum(tf.mul(state, row(matricesOut[t]!)), 3), [batch, channels]);
  });
  return { output: tf.stack(outputs, 1), memory: tf.reshape(state, memory.shape) };
}
