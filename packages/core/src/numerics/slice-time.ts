import * as tf from '@tensorflow/tfjs-core';

// from this size on a copy of the whole tensor costs more than the few small operations that gather rows
const WORTH_GATHERING = 16_384;

/**
 * Steps `start <= t < start + count` of a tensor [B, T, C].
 *
 * tfjs-wasm's Slice first copies the whole tensor out of its heap, so a loop over time would be quadratic: there the rows are gathered.
 */
export function sliceTime(input: tf.Tensor, start: number, count: number): tf.Tensor {
  const [batch, time, channels] = input.shape as [number, number, number];
  if (tf.getBackend() !== 'wasm' || input.size < WORTH_GATHERING) return tf.slice(input, [0, start, 0], [batch, count, channels]);
  const steps = tf.range(start, start + count, 1, 'int32');
  const rows =
    batch === 1
      ? steps
      : count === 1
        ? tf.range(start, start + (batch - 1) * time + 1, time, 'int32')
        : tf.add(tf.reshape(tf.range(0, (batch - 1) * time + 1, time, 'int32'), [batch, 1]), tf.reshape(steps, [1, count]));
  const gathered = tf.gatherND(tf.reshape(input, [batch * time, channels]), tf.reshape(rows, [batch * count, 1]));
  return tf.reshape(gathered, [batch, count, channels]);
}
