import * as tf from '@tensorflow/tfjs-core';
import { blockAttentionKernel, gatherRows, tidy, topKKernel } from '@seqloom/core';
import type { State, StateShapes } from '@seqloom/core';
import { detach } from '../blocks/detach.ts';
import { nearestClusters, similarities, unitVectors } from './clusters.ts';

/** Sizes of the member cache of recent routing. */
export interface MemberCacheShape {
  readonly clusters: number;
  readonly window: number;
  readonly heads: number;
  readonly headDim: number;
  readonly valueDim?: number | undefined;
}

/**
 * Shapes of the member cache: the last w members of each cluster, oldest first and right aligned in slots c w to c w + w - 1;
 * `member.position` is the token position plus 1, and 0 in an empty slot.
 */
export function memberCacheShapes(batch: number, shape: MemberCacheShape): StateShapes {
  const { clusters, window, heads, headDim, valueDim = headDim } = shape;
  const slots = clusters * window;
  return {
    'member.key': [batch, slots, heads, headDim],
    'member.value': [batch, slots, heads, valueDim],
    'member.position': [batch, slots, heads],
  };
}

/** Tensors of `recentRouting`. */
export interface RecentRoutingInputs {
  /** [B, T, H, D] */
  readonly query: tf.Tensor;
  /** [B, T, H, D]; absent: the queries, at length 1 */
  readonly key?: tf.Tensor | undefined;
  /** [B, T, H, Dv] */
  readonly value: tf.Tensor;
  /** [H, C, D] */
  readonly centroids: tf.Tensor;
  /** [H, C, M, D], keys that every query of a cluster sees */
  readonly memoryKey?: tf.Tensor | undefined;
  /** [H, C, M, Dv] */
  readonly memoryValue?: tf.Tensor | undefined;
}

/** Settings of `recentRouting`. */
export interface RecentRoutingSettings {
  /** w, members that a query sees */
  readonly window: number;
  /** default D^-0.5 */
  readonly scale?: number | undefined;
  /** [B, T], with padding on the right */
  readonly valid?: tf.Tensor2D | null | undefined;
  /** [B], valid tokens per row */
  readonly lengths?: tf.Tensor1D | null | undefined;
}

/**
 * Strictly causal routing attention: query t reads the last w keys, up to its own, whose nearest centroid is that of the query.
 *
 * Fed piece by piece it gives what one call gives. Without keys of their own, a token reads itself only where it would read nothing else.
 *
 * @param inputs query, key, value of the new tokens, centroids, memories
 * @param state with the shapes of `memberCacheShapes` and `position` [B]; stays the caller's
 * @param settings window, scale, padding
 * @returns output [B, T, H, Dv] (0 where a query sees nothing, arbitrary at padding) and the new state, both owned by the caller
 */
export function recentRouting(
  inputs: RecentRoutingInputs,
  state: State,
  settings: RecentRoutingSettings,
): { output: tf.Tensor4D; state: State } {
  const { query, value, centroids, memoryKey, memoryValue } = inputs;
  const { window, valid = null, lengths = null } = settings;
  const [batch, length, heads, headDim] = query.shape as [number, number, number, number];
  const clusters = centroids.shape[1]!;
  const slots = clusters * window;
  const memories = memoryKey?.shape[2] ?? 0;
  const scale = settings.scale ?? headDim ** -0.5;
  return tidy(() => {
    const key = inputs.key ?? unitVectors(query);
    const ofQuery = nearestClusters(similarities(query, centroids)); // [B, H, T]
    const ofKey = inputs.key ? nearestClusters(similarities(key, centroids)) : ofQuery;
    const held = detach(state['member.position']!);
    const rounds = arrivals(ofKey, valid, held, window, clusters);
    const pick = (table: tf.Tensor, hot: tf.Tensor): tf.Tensor => tf.sum(tf.mul(hot, table), 3); // [B, H, T]
    const hot = clusterRows(ofQuery, clusters);
    const own = {
      start: pick(tf.expandDims(rounds.start, 2), hot),
      count: pick(rounds.count, hot),
      held: pick(tf.expandDims(rounds.held, 2), hot),
      cluster: tf.cast(ofQuery, 'float32'),
    };
    let lists = recentMembers(rounds.order, own, window, slots); // [B, H, T, w]
    if (!inputs.key) {
      // the newest member is the query itself: it stays only where it is alone
      const others = window === 1 ? tf.zerosLike(own.count) : tf.sub(tf.add(own.count, own.held), 1);
      const alone = memories > 0 ? tf.zerosLike(others) : tf.clipByValue(tf.sub(1, others), 0, 1);
      const [older, self] = [
        tf.slice(lists, [0, 0, 0, 0], [-1, -1, -1, window - 1]),
        tf.slice(lists, [0, 0, 0, window - 1], [-1, -1, -1, 1]),
      ];
      const kept = tf.sub(tf.mul(tf.add(self, 1), tf.expandDims(alone, 3)), 1);
      lists = window === 1 ? kept : tf.concat([older, kept], 3);
    }
    const parts: { key: tf.Tensor[]; value: tf.Tensor[] } = {
      key: [state['member.key']!, key],
      value: [state['member.value']!, value],
    };
    if (memoryKey && memoryValue) {
      const first = slots + length;
      const places = tf.add(tf.expandDims(tf.mul(own.cluster, memories), 3), tf.range(first, first + memories, 1, 'float32'));
      lists = tf.concat([lists, places], 3);
      parts.key.push(spread(memoryKey, batch));
      parts.value.push(spread(memoryValue, batch));
    }
    const { output } = blockAttentionKernel.run(
      { query, key: tf.concat(parts.key, 1), value: tf.concat(parts.value, 1), blocks: tf.cast(lists, 'int32') },
      { scale, causal: false, queryBlock: 1, keyBlock: 1 },
    );
    const last = recentMembers(rounds.order, rounds.atEnd, window, slots); // [B, H, C, w]
    const positions = tf.add(tf.reshape(detach(state.position), [batch, 1]), tf.range(1, length + 1, 1, 'float32'));
    const everyHead = tf.add(tf.expandDims(positions, 2), tf.zeros([1, 1, heads]));
    const keep = membersFrom(tf.reshape(last, [batch, heads, slots]), slots + length);
    return {
      output: output as tf.Tensor4D,
      state: {
        'member.key': keep(state['member.key']!, key),
        'member.value': keep(state['member.value']!, value),
        'member.position': tf.reshape(keep(tf.expandDims(held, 3), tf.expandDims(everyHead, 3)), [batch, slots, heads]),
        position: tf.add(state.position, lengths ?? length),
      } as unknown as State,
    };
  });
}

/** 1 at the cluster of each token, else 0: [B, H, T, C] from [B, H, T]. */
function clusterRows(x: tf.Tensor, clusters: number): tf.Tensor {
  // whole numbers: clip says whether they differ; tfjs-webgpu takes no running sum of a fresh cast, hence no tf.equal
  const distance = tf.sub(tf.expandDims(tf.cast(x, 'float32'), 3), tf.range(0, clusters, 1, 'float32'));
  return tf.sub(1, tf.clipByValue(tf.abs(distance), 0, 1));
}

/** Where the new keys of each cluster stand once they are sorted by cluster and time. */
interface Arrivals {
  /** float32 [B, H, T], new keys by cluster, within a cluster by time, padding last */
  readonly order: tf.Tensor;
  /** [B, H, C], place of a cluster's first new key in the order */
  readonly start: tf.Tensor;
  /** [B, H, T, C], new keys of each cluster up to a token */
  readonly count: tf.Tensor;
  /** [B, H, C], members in the cache */
  readonly held: tf.Tensor;
  /** all clusters as they stand after the last token */
  readonly atEnd: ListEnds;
}

/** Ends of lists of members, each [B, H, N]. */
interface ListEnds {
  readonly start: tf.Tensor;
  /** new members that the list may hold */
  readonly count: tf.Tensor;
  /** cached members */
  readonly held: tf.Tensor;
  readonly cluster: tf.Tensor;
}

function arrivals(ofKey: tf.Tensor, valid: tf.Tensor2D | null, positions: tf.Tensor, window: number, clusters: number): Arrivals {
  const [batch, heads, length] = ofKey.shape as [number, number, number];
  const there = valid && tf.reshape(valid, [batch, 1, length]);
  const plain = clusterRows(ofKey, clusters);
  const hot = there ? tf.mul(plain, tf.expandDims(there, 3)) : plain;
  const count = tf.cumsum(hot, 2);
  const total = tf.reshape(tf.slice(count, [0, 0, length - 1, 0], [-1, -1, 1, -1]), [batch, heads, clusters]);
  const start = tf.cumsum(total, 2, true);
  const cluster = tf.cast(ofKey, 'float32');
  const bucket = there ? tf.add(clusters, tf.mul(tf.sub(cluster, clusters), there)) : cluster;
  // all keys of a row are distinct, so their order is too
  const rank = tf.neg(tf.add(tf.mul(bucket, length), tf.range(0, length, 1, 'float32')));
  const { indices } = topKKernel.run({ input: rank }, { k: length });
  const filled = tf.clipByValue(tf.transpose(positions, [0, 2, 1]), 0, 1);
  const held = tf.sum(tf.reshape(filled, [batch, heads, clusters, window]), 3);
  const all = tf.add(tf.range(0, clusters, 1, 'float32'), tf.zeros([batch, heads, 1]));
  return { order: tf.add(tf.cast(indices, 'float32'), 0), start, count, held, atEnd: { start, count: total, held, cluster: all } };
}

/**
 * The last w members of lists, oldest first: rows of the cache (slots) with the new tokens behind it, -1 for none.
 *
 * @returns float32 [B, H, N, w]
 */
function recentMembers(order: tf.Tensor, { start, count, held, cluster }: ListEnds, window: number, slots: number): tf.Tensor {
  const [batch, heads, length] = order.shape as [number, number, number];
  const age = tf.range(window - 1, -1, -1, 'float32');
  const fresh = tf.expandDims(count, 3);
  // whole numbers: clip(x, 0, 1) says x >= 1
  const isNew = tf.clipByValue(tf.sub(fresh, age), 0, 1);
  const place = tf.sub(tf.add(tf.expandDims(start, 3), tf.sub(fresh, 1)), age);
  const row = tf.reshape(tf.range(0, batch * heads * length, length, 'float32'), [batch, heads, 1, 1]);
  const flat = tf.cast(tf.add(tf.clipByValue(place, 0, length - 1), row), 'int32');
  const token = gatherRows({ table: tf.reshape(order, [batch * heads * length, 1]), indices: flat });
  const back = tf.sub(age, fresh); // among cached members, 0 is the newest
  const isOld = tf.mul(tf.sub(1, isNew), tf.clipByValue(tf.sub(tf.expandDims(held, 3), back), 0, 1));
  const slot = tf.sub(tf.add(tf.mul(tf.expandDims(cluster, 3), window), window - 1), back);
  const fromNew = tf.mul(isNew, tf.add(tf.reshape(token, place.shape), slots + 1));
  return tf.sub(tf.add(fromNew, tf.mul(isOld, tf.add(slot, 1))), 1);
}

/** Memories [H, C, M, D] as keys of every row: [B, C M, H, D]. */
function spread(memory: tf.Tensor, batch: number): tf.Tensor {
  const [heads, clusters, memories, width] = memory.shape as [number, number, number, number];
  const one = tf.transpose(tf.reshape(memory, [heads, clusters * memories, width]), [1, 0, 2]);
  const all = tf.add(tf.reshape(one, [1, clusters * memories * heads * width]), tf.zeros([batch, 1]));
  return tf.reshape(all, [batch, clusters * memories, heads, width]);
}

/** Picks members [B, H, R] out of a cache [B, R, H, D] with new rows behind it, zeros where there is none. */
function membersFrom(members: tf.Tensor, total: number): (cached: tf.Tensor, fresh: tf.Tensor) => tf.Tensor {
  const [batch, heads, slots] = members.shape as [number, number, number];
  const perSlot = tf.transpose(members, [0, 2, 1]); // [B, R, H]
  const exists = tf.expandDims(tf.clipByValue(tf.add(perSlot, 1), 0, 1), 3);
  const first = tf.reshape(tf.range(0, batch * total, total, 'float32'), [batch, 1, 1]);
  const row = tf.add(tf.mul(tf.add(tf.relu(perSlot), first), heads), tf.range(0, heads, 1, 'float32'));
  const indices = tf.cast(tf.reshape(row, [batch * slots * heads]), 'int32');
  return (cached, fresh) => {
    const width = cached.shape[3]!;
    const table = tf.reshape(tf.concat([cached, fresh], 1), [batch * total * heads, width]);
    return tf.mul(tf.reshape(gatherRows({ table, indices }), [batch, slots, heads, width]), exists);
  };
}
