import * as tf from '@tensorflow/tfjs-core';
import { gatherRows, softmaxAttention } from '@seqloom/core';
import type { NeighborhoodAxis } from './axes.ts';
import { tilePlan } from './tiles.ts';

/** Query, key and value of a grid whose N tokens stand in one row-major sequence. */
export interface FlatHeads {
  /** [B, N, H, D] */
  readonly query: tf.Tensor;
  /** [B, N, G, D] */
  readonly key: tf.Tensor;
  /** [B, N, G, Dv] */
  readonly value: tf.Tensor;
}

/** Output [B, N, H, Dv] and logSumExp [B, N, H]. */
export type FlatResult = { output: tf.Tensor; logSumExp: tf.Tensor };

// below any score, and finite, so that no infinities meet
const HIDDEN = -1e30;

/**
 * The gathered form: tiles of neighbouring queries against the keys that any of them sees, so time and memory grow with N times the
 * window, never with N squared.
 */
export function gatheredForm(heads: FlatHeads, shape: readonly number[], axes: readonly NeighborhoodAxis[], scale: number): FlatResult {
  return tf.tidy(() => {
    const plan = tilePlan(shape, axes);
    const { tiles, queries, keys, size } = plan;
    const batch = heads.query.shape[0]!;
    const queryRows = tf.tensor1d(plan.queryRows, 'int32');
    const keyRows = tf.tensor1d(plan.keyRows, 'int32');
    // rows of the batch stand beside one another as heads: they share tiles and visibility
    const gather = (x: tf.Tensor, indices: tf.Tensor, count: number): tf.Tensor => {
      const [, , each, width] = x.shape as [number, number, number, number];
      const table = tf.reshape(batch === 1 ? x : tf.transpose(x, [1, 0, 2, 3]), [size, batch * each * width]);
      return tf.reshape(gatherRows({ table, indices }), [tiles, count, batch * each, width]);
    };
    const tiled = softmaxAttention(
      {
        query: gather(heads.query, queryRows, queries),
        key: gather(heads.key, keyRows, keys),
        value: gather(heads.value, keyRows, keys),
        bias: tf.tensor(
          Float32Array.from(plan.seen, (seen) => (seen ? 0 : HIDDEN)),
          [tiles, 1, queries, keys],
        ),
      },
      { scale },
    );
    const home = new Int32Array(size);
    plan.queryRows.forEach((token, slot) => (home[token] = slot));
    const slots = tf.tensor1d(home, 'int32');
    const back = (x: tf.Tensor, width: number): tf.Tensor => {
      const each = x.size / (tiles * queries * batch * width);
      const rows = gatherRows({ table: tf.reshape(x, [tiles * queries, batch * each * width]), indices: slots });
      const apart = tf.reshape(rows, [size, batch, each, width]);
      return batch === 1 ? tf.reshape(apart, [1, size, each, width]) : tf.transpose(apart, [1, 0, 2, 3]);
    };
    const logSumExp = back(tiled.logSumExp, 1);
    return {
      output: back(tiled.output, heads.value.shape[3]!),
      logSumExp: tf.reshape(logSumExp, logSumExp.shape.slice(0, 3)),
    };
  });
}

/**
 * The gathered form of one noncausal axis whose rows have lengths of their own: windows move inward at each row's own end.
 *
 * Runs of one residue class are rows of a batch. With keys at 2 y and queries at 2 start + w - 1 a window is one distance below w, for
 * even windows too, so that the kernel needs positions only.
 *
 * @param lengths [B], valid tokens per row, padding on the right
 */
export function raggedForm(
  heads: FlatHeads,
  { window, dilation, stride }: NeighborhoodAxis,
  lengths: tf.Tensor,
  scale: number,
): FlatResult {
  return tf.tidy(() => {
    const [batch, length] = heads.query.shape as [number, number];
    const queries = Math.min(Math.max(16, Math.ceil(window / 2)), Math.ceil(length / dilation));
    const runs = Math.ceil(length / (dilation * queries));
    const members = runs * queries; // per residue class, filled up
    const reach = window - 1;
    const keys = queries + 2 * reach;
    const classes = batch * dilation;
    const fold = (x: tf.Tensor): tf.Tensor => {
      const [, , each, width] = x.shape as [number, number, number, number];
      const filled = padTime(x, members * dilation - length);
      const apart = tf.transpose(tf.reshape(filled, [batch, members, dilation, each * width]), [0, 2, 1, 3]);
      return tf.reshape(apart, [classes * members, each * width]);
    };
    const box = Int32Array.from({ length: classes * runs * keys }, (_, at) => {
      const [run, k] = [Math.floor(at / keys), at % keys];
      const y = (run % runs) * queries - reach + k;
      return Math.floor(run / runs) * members + Math.min(Math.max(y, 0), members - 1);
    });
    const rows = tf.tensor1d(box, 'int32');
    const gather = (x: tf.Tensor): tf.Tensor =>
      tf.reshape(gatherRows({ table: fold(x), indices: rows }), [classes * runs, keys, x.shape[2]!, x.shape[3]!]);
    // members of a class, [B, dilation, 1]
    const residue = tf.reshape(tf.range(0, dilation, 1, 'float32'), [1, dilation]);
    // halves keep ceil and floor of whole quotients right where division is not exact
    const own = tf.ceil(tf.div(tf.sub(tf.reshape(lengths, [batch, 1]), tf.add(residue, 0.5)), dilation));
    const count = tf.reshape(own, [classes, 1]);
    const y = tf.range(0, members, 1, 'float32');
    const middle = tf.add(tf.mul(tf.floor(tf.div(tf.add(y, 0.5), stride)), stride), stride >> 1); // [members]
    const leader = tf.minimum(tf.reshape(middle, [1, members]), tf.sub(count, 1));
    const start = tf.relu(tf.minimum(tf.sub(leader, window >> 1), tf.sub(count, window))); // [classes, members]
    const queryPositions = tf.reshape(tf.add(tf.mul(start, 2), window - 1), [classes * runs, queries]);
    const place = tf.tensor2d(
      Int32Array.from({ length: runs * keys }, (_, at) => Math.floor(at / keys) * queries - reach + (at % keys)),
      [1, runs * keys],
    );
    const keyPlace = tf.cast(place, 'float32');
    // 1 for keys of the class: whole numbers make clip(x + 1, 0, 1) say x >= 0
    const exists = tf.mul(tf.clipByValue(tf.add(keyPlace, 1), 0, 1), tf.clipByValue(tf.sub(count, keyPlace), 0, 1));
    const keyPositions = tf.sub(tf.mul(exists, tf.add(tf.mul(keyPlace, 2), 1)), 1);
    const { output, logSumExp } = softmaxAttention(
      {
        query: tf.reshape(fold(heads.query), [classes * runs, queries, heads.query.shape[2]!, heads.query.shape[3]!]),
        key: gather(heads.key),
        value: gather(heads.value),
        queryPositions,
        keyPositions: tf.reshape(keyPositions, [classes * runs, keys]),
      },
      { scale, window },
    );
    const unfold = (x: tf.Tensor, width: number): tf.Tensor => {
      const each = x.shape[2]!;
      const apart = tf.transpose(tf.reshape(x, [batch, dilation, members, each * width]), [0, 2, 1, 3]);
      const flat = tf.reshape(apart, [batch, members * dilation, each, width]);
      return tf.slice(flat, [0, 0, 0, 0], [batch, length, each, width]);
    };
    const sums = unfold(logSumExp, 1);
    return { output: unfold(output, heads.value.shape[3]!), logSumExp: tf.reshape(sums, sums.shape.slice(0, 3)) };
  });
}

/** Adds rows of zeros behind [B, T, H, D]. */
export function padTime(x: tf.Tensor, count: number): tf.Tensor {
  if (count === 0) return x;
  return tf.pad(x, [
    [0, 0],
    [0, count],
    [0, 0],
    [0, 0],
  ]);
}
