import * as tf from '@tensorflow/tfjs-core';
import { gatherRowsKernel } from '@seqloom/core';
import type { ChosenSlots } from './select-slots.ts';

/** The gathered form: `y = sum over the chosen slots of weight V`, [N, E]; the gradient of the table is as large as the table. */
export function gatheredForm({ indices, weights }: ChosenSlots, values: tf.Tensor): tf.Tensor2D {
  const [count, chosen] = indices.shape;
  // [N, 1, H k] times [N, H k, E]
  const rows = gatherRowsKernel.run({ table: values, indices }, {}).rows;
  return tf.reshape(tf.matMul(tf.reshape(weights, [count, 1, chosen]), rows as tf.Tensor3D), [count, values.shape[1]!]) as tf.Tensor2D;
}
