import * as tf from '@tensorflow/tfjs-core';
import { gatherRows, scatterAddRows, softmaxAttention, topKKernel } from '@seqloom/core';
import { similarities } from './clusters.ts';

/** What the forms of `routingAttention` read; keys are of length 1 where they are shared with queries. */
export interface RoutedCall {
  /** [B, T, H, D] */
  readonly query: tf.Tensor;
  /** [B, S, H, D] */
  readonly key: tf.Tensor;
  /** [B, S, H, Dv] */
  readonly value: tf.Tensor;
  /** [H, C, D] */
  readonly centroids: tf.Tensor;
  /** [H, C, M, D] */
  readonly memoryKey?: tf.Tensor | undefined;
  /** [H, C, M, Dv] */
  readonly memoryValue?: tf.Tensor | undefined;
  /** [B, T] and [B, S], 1 for tokens */
  readonly mask?: tf.Tensor | undefined;
  readonly keyMask?: tf.Tensor | undefined;
  /** queries and keys per cluster, at most T and S */
  readonly window: number;
  readonly keyWindow: number;
  readonly causal: boolean;
  readonly sharedQueryKey: boolean;
  readonly scale: number;
}

// what a shared key adds to the logit of its own query: it counts only where nothing else is visible
const OWN = -5e4;

/**
 * The w tokens nearest to each centroid: int32 [B, H, C, w].
 *
 * @param x [B, T, H, D]
 * @param mask [B, T]; padding comes last
 */
export function clusterMembers(x: tf.Tensor, centroids: tf.Tensor, mask: tf.Tensor | undefined, window: number): tf.Tensor4D {
  return tf.tidy(() => {
    let scores = tf.transpose(similarities(x, centroids), [0, 1, 3, 2]); // [B, H, C, T]
    // cosines are at most 1, so padding falls below all of them
    if (mask) scores = tf.add(scores, tf.mul(tf.sub(tf.reshape(mask, [mask.shape[0]!, 1, 1, mask.shape[1]!]), 1), 8)) as tf.Tensor4D;
    return topKKernel.run({ input: scores }, { k: window }).indices as tf.Tensor4D;
  });
}

/** 1 for members that are tokens, 0 for padding, in the shape of the members [B, H, C, w]. */
function realMembers(members: tf.Tensor, mask: tf.Tensor | undefined): tf.Tensor {
  if (!mask) return tf.onesLike(tf.cast(members, 'float32'));
  const [batch, length] = mask.shape as [number, number];
  const row = tf.add(members, tf.reshape(tf.range(0, batch * length, length, 'int32'), [batch, 1, 1, 1]));
  return tf.reshape(gatherRows({ table: tf.reshape(mask, [batch * length, 1]), indices: row }), members.shape);
}

/** Rows of members in a table of [B, T, H, ...]: row (b T + t) H + h. */
function tableRows(members: tf.Tensor, length: number): tf.Tensor {
  const [batch, heads] = members.shape as [number, number];
  const first = tf.reshape(tf.range(0, batch * length, length, 'int32'), [batch, 1, 1, 1]);
  const token = tf.mul(tf.add(members, first), tf.scalar(heads, 'int32'));
  return tf.reshape(tf.add(token, tf.reshape(tf.range(0, heads, 1, 'int32'), [1, heads, 1, 1])), [-1]);
}

/**
 * The gathered form: every cluster is one small attention of its w queries to its w keys; a token's output is the mean over the
 * clusters that hold it, `o_t = sum_c out_t^c / (count_t + 1e-5)`, and zero in none.
 */
export function gatheredForm(call: RoutedCall): tf.Tensor {
  return tf.tidy(() => {
    const { query, key, value, centroids, mask, keyMask, window, keyWindow, causal, sharedQueryKey, scale } = call;
    const [batch, length, heads, headDim] = query.shape as [number, number, number, number];
    const [, keys, , valueDim] = value.shape as [number, number, number, number];
    const boxes = batch * heads * centroids.shape[1]!;
    const members = clusterMembers(query, centroids, mask, window);
    const keyMembers = sharedQueryKey ? members : clusterMembers(key, centroids, keyMask, keyWindow);
    const [rows, keyRows] = [tableRows(members, length), tableRows(keyMembers, keys)];
    const gather = (x: tf.Tensor, indices: tf.Tensor, count: number, width: number): tf.Tensor =>
      tf.reshape(gatherRows({ table: tf.reshape(x, [-1, width]), indices }), [boxes, count, 1, width]);
    const real = realMembers(members, mask);
    const { memories, ...tokens } = withMemory(
      gather(key, keyRows, keyWindow, headDim),
      gather(value, keyRows, keyWindow, valueDim),
      tf.reshape(keyPlaces(keyMembers, realMembers(keyMembers, keyMask)), [boxes, keyWindow]),
      call,
    );
    const { output } = softmaxAttention(
      {
        query: gather(query, rows, window, headDim),
        ...tokens,
        queryPositions: tf.reshape(tf.add(tf.cast(members, 'float32'), 1), [boxes, window]),
        // a shared cluster lists queries and keys in the same order
        ...(sharedQueryKey ? { bias: ownBias(window, memories) } : {}),
      },
      { causal, prefix: memories > 0 ? 1 : 0, scale },
    );
    const weight = tf.reshape(real, [boxes * window, 1]);
    const parts = tf.concat([tf.mul(tf.reshape(output, [boxes * window, valueDim]), weight), weight], 1);
    const sums = scatterAddRows({ rows: parts, indices: rows }, { rowCount: batch * length * heads });
    const [total, count] = tf.split(sums, [valueDim, 1], 1) as [tf.Tensor, tf.Tensor];
    return tf.reshape(tf.div(total, tf.add(count, 1e-5)), [batch, length, heads, valueDim]);
  });
}

/** Positions of keys: index + 1, so that 0 is left for memories; -1 for padding. */
export function keyPlaces(members: tf.Tensor, real: tf.Tensor): tf.Tensor {
  return tf.sub(tf.mul(tf.add(tf.cast(members, 'float32'), 2), real), 1);
}

/** Puts the memories of each cluster in front of its keys [B H C, n, 1, D], at position 0, which a prefix of 1 shows to every query. */
export function withMemory(
  key: tf.Tensor,
  value: tf.Tensor,
  keyPositions: tf.Tensor,
  { memoryKey, memoryValue }: Pick<RoutedCall, 'memoryKey' | 'memoryValue'>,
): { key: tf.Tensor; value: tf.Tensor; keyPositions: tf.Tensor; memories: number } {
  if (!memoryKey || !memoryValue) return { key, value, keyPositions, memories: 0 };
  const [heads, clusters, memories] = memoryKey.shape as [number, number, number];
  const boxes = key.shape[0]!;
  const batch = boxes / (heads * clusters);
  const spread = (memory: tf.Tensor): tf.Tensor => {
    const width = memory.shape[3]!;
    const one = tf.reshape(memory, [1, heads * clusters * memories * width]);
    return tf.reshape(tf.add(one, tf.zeros([batch, 1])), [boxes, memories, 1, width]);
  };
  return {
    key: tf.concat([spread(memoryKey), key], 1),
    value: tf.concat([spread(memoryValue), value], 1),
    keyPositions: tf.concat([tf.zeros([boxes, memories]), keyPositions], 1),
    memories,
  };
}

/** [1, 1, n, M + n]: a large penalty where a query meets its own shared key. */
export function ownBias(count: number, memories: number): tf.Tensor {
  const own = tf.mul(tf.eye(count), OWN);
  return tf.reshape(memories > 0 ? tf.concat([tf.zeros([count, memories]), own], 1) : own, [1, 1, count, memories + count]);
}
