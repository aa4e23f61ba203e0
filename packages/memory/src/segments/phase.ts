import * as tf from '@tensorflow/tfjs-core';
import type { StateShape } from '@seqloom/core';

/**
 * Shape of the state entry `phase`, which holds no numbers: its extent tells the host where the rows stand in their segment.
 *
 * An extent below the segment length is the number of tokens that every row has in its unfinished segment. An extent of the segment
 * length says that rows had padding, so that each stands at its own place, `position mod segmentLength`.
 */
export function phaseShape(batch: number): StateShape {
  return [batch, 'length', 0];
}

/** The entry for rows that all have `tokens` tokens in their unfinished segment; `tokens` = segment length: rows differ. */
export function phaseEntry(batch: number, tokens: number): tf.Tensor {
  return tf.zeros([batch, tokens, 0]);
}

/** Number of finished segments of each row, for whole numbers below 2^23. */
export function finishedSegments(position: tf.Tensor, segmentLength: number): tf.Tensor1D {
  return tf.floor(tf.div(tf.add(position, 0.5), segmentLength)) as tf.Tensor1D;
}
