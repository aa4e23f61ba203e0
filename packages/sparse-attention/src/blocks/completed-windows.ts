import * as tf from '@tensorflow/tfjs-core';
import { gatherRowsKernel, tidy } from '@seqloom/core';

/** Windows of `length` tokens, one starting every `stride` tokens; blocks are windows whose stride is their length. */
export interface Windows {
  readonly length: number;
  readonly stride: number;
}

/** Number of windows that are complete after `tokens` tokens. */
export function countWindows(tokens: number, { length, stride }: Windows): number {
  return tokens < length ? 0 : Math.floor((tokens - length) / stride) + 1;
}

/** The same for a tensor of token counts, float32 of any shape. */
export function countWindowsOf(tokens: tf.Tensor, { length, stride }: Windows): tf.Tensor {
  return tidy(() => tf.relu(tf.floor(tf.div(tf.add(tokens, stride - length), stride))));
}

/** Windows that new tokens complete. */
export interface CompletedWindows {
  /** [B, n, length, G D], in order; rows of one that completes fewer hold arbitrary tokens behind them */
  readonly tokens: tf.Tensor4D;
  /** [B], how many of the n are complete; null: all */
  readonly counts: tf.Tensor1D | null;
}

/**
 * Cuts out the windows of keys (or values) that new tokens complete, wherever each row stands within a window.
 *
 * @param joined [B, L + T, G, D], a right-aligned cache of L entries with T new tokens behind it
 * @param fresh T
 * @param position [B], tokens seen before
 * @param lengths [B], valid new tokens, with padding on the right; null: all
 * @param windows their length and stride
 * @returns the windows, or null where no row can have completed one
 */
export function completedWindows(
  joined: tf.Tensor,
  fresh: number,
  position: tf.Tensor,
  lengths: tf.Tensor1D | null,
  windows: Windows,
): CompletedWindows | null {
  const [batch, total, groups, headDim] = joined.shape as [number, number, number, number];
  const width = groups * headDim;
  const start = total === fresh;
  const count = Math.min(Math.ceil(fresh / windows.stride), countWindows(total, windows));
  if (count === 0) return null;
  return tidy(() => {
    const before = start ? tf.zeros([batch]) : countWindowsOf(position, windows);
    const after = countWindowsOf(tf.add(position, lengths ?? fresh), windows);
    const counts = start && !lengths ? null : (tf.sub(after, before) as tf.Tensor1D);
    if (start && windows.length === windows.stride) {
      const whole = count * windows.length;
      const cut = whole === total ? joined : tf.slice(joined, [0, 0, 0, 0], [batch, whole, groups, headDim]);
      return { tokens: tf.reshape(cut, [batch, count, windows.length, width]), counts };
    }
    const column = (window: tf.Tensor): tf.Tensor =>
      tf.reshape(tf.add(tf.expandDims(tf.mul(window, windows.stride), -1), tf.range(0, windows.length, 1, 'float32')), [
        -1,
        count * windows.length,
      ]);
    const first = tf.add(tf.reshape(before, [batch, 1]), tf.range(0, count, 1, 'float32'));
    // a row that completes fewer windows would read behind the last token
    const columns = tf.clipByValue(tf.add(column(first), tf.reshape(tf.sub(total - fresh, position), [batch, 1])), 0, total - 1);
    const rows = tf.add(columns, tf.reshape(tf.range(0, batch * total, total, 'float32'), [batch, 1]));
    const indices = tf.cast(tf.reshape(rows, [batch * count * windows.length]), 'int32');
    const table = tf.reshape(joined, [batch * total, width]);
    const tokens = tf.reshape(gatherRowsKernel.run({ table, indices }, {}).rows, [batch, count, windows.length, width]);
    return { tokens: tokens as tf.Tensor4D, counts };
  });
}

/**
 * Moves right-aligned rows to the front, so that entry n of a row is its window n.
 *
 * @param rows [B, N, G, D], of which the last `counts` of each row are in use
 * @param counts [B]
 * @returns [B, N, G, D]; what stands behind the rows in use is arbitrary
 */
export function frontAligned(rows: tf.Tensor, counts: tf.Tensor): tf.Tensor {
  return tidy(() => {
    const [batch, count, groups, headDim] = rows.shape as [number, number, number, number];
    const place = tf.add(tf.range(0, count, 1, 'float32'), tf.reshape(tf.sub(count, counts), [batch, 1]));
    const inside = tf.minimum(place, count - 1);
    const flat = tf.add(inside, tf.reshape(tf.range(0, batch * count, count, 'float32'), [batch, 1]));
    const indices = tf.cast(tf.reshape(flat, [batch * count]), 'int32');
    const table = tf.reshape(rows, [batch * count, groups * headDim]);
    return tf.reshape(gatherRowsKernel.run({ table, indices }, {}).rows, rows.shape);
  });
}
