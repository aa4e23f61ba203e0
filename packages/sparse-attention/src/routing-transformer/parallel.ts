import * as tf from '@tensorflow/tfjs-core';
import { scatterAddRows, softmaxAttention } from '@seqloom/core';
import { clusterMembers, keyPlaces, ownBias, withMemory } from './gathered.ts';
import type { RoutedCall } from './gathered.ts';

/** 1 where a token is a member of a cluster and no padding: [B H C, T]. */
function membership(members: tf.Tensor, length: number, mask: tf.Tensor | undefined): tf.Tensor {
  const [batch, heads, clusters, window] = members.shape as [number, number, number, number];
  const boxes = batch * heads * clusters;
  const first = tf.reshape(tf.range(0, boxes * length, length, 'int32'), [boxes, 1]);
  const indices = tf.reshape(tf.add(tf.reshape(members, [boxes, window]), first), [boxes * window]);
  const table = scatterAddRows({ rows: tf.ones([boxes * window, 1]), indices }, { rowCount: boxes * length });
  const chosen = tf.reshape(table, [batch, heads * clusters, length]);
  const real = mask ? tf.mul(chosen, tf.reshape(mask, [batch, 1, length])) : chosen;
  return tf.reshape(real, [boxes, length]);
}

/** The parallel form: for every cluster full attention of all queries under a mask, C times the work of dense attention. */
export function parallelForm(call: RoutedCall): tf.Tensor {
  return tf.tidy(() => {
    const { query, key, value, centroids, mask, keyMask, window, keyWindow, causal, sharedQueryKey, scale } = call;
    const [batch, length, heads] = query.shape as [number, number, number];
    const [, keys, , valueDim] = value.shape as [number, number, number, number];
    const clusters = centroids.shape[1]!;
    const boxes = batch * heads * clusters;
    const chosen = membership(clusterMembers(query, centroids, mask, window), length, mask);
    const seen = sharedQueryKey ? chosen : membership(clusterMembers(key, centroids, keyMask, keyWindow), keys, keyMask);
    const spread = (x: tf.Tensor): tf.Tensor => {
      const [, count, , width] = x.shape as [number, number, number, number];
      const perHead = tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batch * heads, 1, count * width]);
      return tf.reshape(tf.add(perHead, tf.zeros([1, clusters, 1])), [boxes, count, 1, width]);
    };
    const places = keyPlaces(
      tf.tensor2d(
        Array.from({ length: keys }, (_, j) => j),
        [1, keys],
      ),
      seen,
    );
    const { memories, ...tokens } = withMemory(spread(key), spread(value), places, call);
    const { output } = softmaxAttention(
      {
        query: spread(query),
        ...tokens,
        queryPositions: tf.add(tf.range(1, length + 1, 1, 'float32'), tf.zeros([boxes, 1])),
        ...(sharedQueryKey ? { bias: ownBias(length, memories) } : {}),
      },
      { causal, prefix: memories > 0 ? 1 : 0, scale },
    );
    const weight = tf.reshape(chosen, [batch * heads, clusters, length, 1]);
    const total = tf.sum(tf.mul(tf.reshape(output, [batch * heads, clusters, length, valueDim]), weight), 1);
    const mean = tf.div(total, tf.add(tf.sum(weight, 1), 1e-5)); // [B H, T, Dv]
    return tf.transpose(tf.reshape(mean, [batch, heads, length, valueDim]), [0, 2, 1, 3]);
  });
}
