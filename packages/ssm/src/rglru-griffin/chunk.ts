import { linearScan } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';

/** What both forms read, all float32; padding has a decay of 1 and adds nothing. */
export interface Recurrence {
  /** a, 0 where a sequence begins, [B, T, W] */
  readonly decay: tf.Tensor;
  /** what is added, [B, T, W] */
  readonly written: tf.Tensor;
  /** [B, W] */
  readonly hidden: tf.Tensor;
}

/** What both forms return. */
export type Recurred = { output: tf.Tensor; hidden: tf.Tensor };

/** The chunked form: the `LinearScan` kernel. */
export function chunkForm({ decay, written, hidden }: Recurrence): Recurred {
  const result = linearScan({ decay, input: written, state: hidden });
  return { output: result.hidden, hidden: result.state };
}
