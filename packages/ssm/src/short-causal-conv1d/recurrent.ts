import * as tf from '@tensorflow/tfjs-core';
import type { ConvolutionCall, ConvolutionResult } from './parallel.ts';

/** The recurrent form, token by token: the window shifts by one, and `y = act(b + sum_i w_i window_i)`. */
export function recurrentForm({ input, weight, bias, window, lengths, activation }: ConvolutionCall): ConvolutionResult {
  const taps = tf.unstack(tf.transpose(weight), 0); // K times [C]
  let held = taps.length > 1 ? tf.unstack(window, 1) : []; // K - 1 times [B, C]
  const counts = lengths && tf.reshape(tf.cast(lengths, 'float32'), [-1, 1]);
  const outputs = tf.unstack(input, 1).map((token, t) => {
    const live = counts && tf.cast(tf.greater(counts, t), 'float32'); // [B, 1]
    const seen = [...held, token];
    const terms = seen.map((row, i) => tf.mul(row, taps[i]!));
    if (bias) terms.push(bias);
    const sum = terms.reduce((a, b) => tf.add(a, b));
    const output = activation === 'silu' ? tf.mul(sum, tf.sigmoid(sum)) : sum;
    const shifted = seen.slice(1);
    // padding does not move the window
    held = live ? shifted.map((row, i) => tf.add(held[i]!, tf.mul(live, tf.sub(row, held[i]!)))) : shifted;
    return live ? tf.mul(output, live) : output;
  });
  return { output: tf.stack(outputs, 1), window: held.length > 0 ? tf.stack(held, 1) : tf.clone(window) };
}
