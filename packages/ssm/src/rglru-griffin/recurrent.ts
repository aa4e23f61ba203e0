import * as tf from '@tensorflow/tfjs-core';
import type { Recurred, Recurrence } from './chunk.ts';

/** The recurrent form, token by token: `h <- a h + b`. */
export function recurrentForm({ decay, written, hidden }: Recurrence): Recurred {
  const added = tf.unstack(written, 1);
  let state = hidden;
  const outputs = tf.unstack(decay, 1).map((now, t) => (state = tf.add(tf.mul(now, state), added[t]!)));
  return { output: tf.stack(outputs, 1), hidden: tf.clone(state) };
}
