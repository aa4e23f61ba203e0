import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, stopGradient, tidy } from '@seqloom/core';
import type { State, StateShapes } from '@seqloom/core';
import { listedMembers, memberList, windowOverList } from './members.ts';
import type { MemberPlaces } from './members.ts';
import { nearestClusters, similarities, unitVectors } from './clusters.ts';

const MECHANISM = 'routing-transformer';

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
 * @throws SeqLoomError when shapes, dtypes or the window do not fit
 */
export function recentRouting(
  inputs: RecentRoutingInputs,
  state: State,
  settings: RecentRoutingSettings,
): { output: tf.Tensor4D; state: State } {
  checkCall(inputs, state, settings.window);
  const { query, value, centroids, memoryKey, memoryValue } = inputs;
  const { window, valid = null, lengths = null } = settings;
  const [batch, length, heads, headDim] = query.shape as [number, number, number, number];
  const [clusters, valueDim] = [centroids.shape[1]!, value.shape[3]!];
  const slots = clusters * window;
  const scale = settings.scale ?? headDim ** -0.5;
  return tidy(() => {
    const shared = !inputs.key;
    const key = inputs.key ?? unitVectors(query);
    const { ofQuery, end, members, lastPlaces, others } = sortedPlaces(
      query,
      inputs.key,
      centroids,
      state['member.position']!,
      window,
      valid,
    );
    const position = tf.add(tf.reshape(stopGradient(state.position), [batch, 1]), tf.range(1, length + 1, 1, 'float32'));
    const marks = tf.add(tf.expandDims(valid ? tf.mul(position, valid) : position, 2), tf.zeros([1, 1, heads])); // [B, T, H]
    const rows = tf.concat(
      [
        tf.concat([state['member.key']!, key], 1),
        tf.concat([state['member.value']!, value], 1),
        tf.expandDims(tf.concat([stopGradient(state['member.position']!), marks], 1), 3),
      ],
      3,
    ); // [B, C w + T, H, D + Dv + 1]
    // one window over the sorted list also computes its cached part, so it needs enough new tokens to pay
    const together = shared && !memoryKey && window > 1 && 8 * length >= slots;
    const list = memberList(rows, members, together);
    const call = { query, value, window, scale, others, sizes: [headDim, valueDim, 1] as const };
    const output = together
      ? windowOverList({ ...call, list, place: members.fresh })
      : listedMembers({ ...call, list, end, shared, cluster: ofQuery, memoryKey, memoryValue });
    // the last w members of each cluster are the next cache
    const next = tf.split(list.rowsAt(lastPlaces), [headDim, valueDim, 1], 3) as [tf.Tensor, tf.Tensor, tf.Tensor];
    return {
      output: output as tf.Tensor4D,
      state: {
        'member.key': next[0],
        'member.value': next[1],
        'member.position': stopGradient(tf.reshape(next[2], [batch, slots, heads])),
        position: tf.add(state.position, lengths ?? length),
      } as unknown as State,
    };
  });
}

/** Where tokens stand among all members, sorted by cluster and time, and what each query sees of them; detached. */
interface SortedPlaces {
  /** [B, H, T] int32 */
  readonly ofQuery: tf.Tensor;
  /** [B, H, T], behind the last member that a query sees */
  readonly end: tf.Tensor;
  readonly members: MemberPlaces;
  /** [B, H, C w], of the last w members of each cluster */
  readonly lastPlaces: tf.Tensor;
  /** [B, H, T], members of a query's cluster up to it, its own left out */
  readonly others: tf.Tensor;
}

function sortedPlaces(
  query: tf.Tensor,
  ownKey: tf.Tensor | undefined,
  centroids: tf.Tensor,
  positions: tf.Tensor,
  window: number,
  valid: tf.Tensor2D | null,
): SortedPlaces {
  const [batch, length, heads] = query.shape as [number, number, number];
  const clusters = centroids.shape[1]!;
  const slots = clusters * window;
  // the tables of all tokens and clusters are freed at once
  return tidy(() => {
    const ofQuery = nearestClusters(similarities(query, centroids)); // [B, H, T]
    const ofKey = ownKey ? nearestClusters(similarities(ownKey, centroids)) : ofQuery;
    const filled = tf.clipByValue(tf.transpose(stopGradient(positions), [0, 2, 1]), 0, 1); // [B, H, C w]
    const keys = clusterRows(ofKey, clusters);
    const counted = valid ? tf.mul(keys, tf.reshape(valid, [batch, 1, length, 1])) : keys;
    const counts = tf.cumsum(counted, 2); // [B, H, T, C]
    const totals = tf.reshape(tf.slice(counts, [0, 0, length - 1, 0], [-1, -1, 1, -1]), [batch, heads, clusters]);
    // all members in one list: of each cluster the w slots of the cache and then its new keys, in order of time
    const first = tf.add(tf.cumsum(totals, 2, true), tf.range(0, slots, window, 'float32')); // [B, H, C]
    const seats = (from: tf.Tensor): tf.Tensor =>
      tf.reshape(tf.add(tf.expandDims(from, 3), tf.range(0, window, 1, 'float32')), [batch, heads, slots]);
    const pick = (table: tf.Tensor, hot: tf.Tensor): tf.Tensor => tf.tidy(() => tf.sum(tf.mul(hot, table), 3));
    const ends = tf.expandDims(tf.add(first, window), 2);
    const hot = ownKey ? clusterRows(ofQuery, clusters) : keys;
    const seen = pick(counts, hot);
    const end = tf.add(pick(ends, hot), seen);
    const place = tf.sub(ownKey ? tf.add(pick(ends, keys), pick(counts, keys)) : end, 1);
    // padding stands behind all members
    const behind = tf.range(slots, slots + length, 1, 'float32');
    const there = valid && tf.reshape(valid, [batch, 1, length]);
    const held = tf.sum(tf.reshape(filled, [batch, heads, clusters, window]), 3);
    return {
      ofQuery,
      end,
      members: { cached: seats(first), fresh: there ? tf.add(behind, tf.mul(tf.sub(place, behind), there)) : place },
      lastPlaces: seats(tf.add(first, totals)),
      others: tf.sub(tf.add(seen, pick(tf.expandDims(held, 2), hot)), ownKey ? 0 : 1),
    };
  });
}

/** 1 at the cluster of each token, else 0: [B, H, T, C] from [B, H, T]. */
function clusterRows(x: tf.Tensor, clusters: number): tf.Tensor {
  // whole numbers: clip says whether they differ; tfjs-webgpu takes no running sum of a fresh cast, hence no tf.equal
  const distance = tf.sub(tf.expandDims(tf.cast(x, 'float32'), 3), tf.range(0, clusters, 1, 'float32'));
  return tf.sub(1, tf.clipByValue(tf.abs(distance), 0, 1));
}

function checkCall({ query, key, value, centroids, memoryKey, memoryValue }: RecentRoutingInputs, state: State, window: number): void {
  const extents = new Map<string, number>();
  const check = (argument: string, tensor: tf.Tensor | undefined, axes: readonly (string | number)[]): void =>
    checkTensor(MECHANISM, argument, tensor, axes, extents);
  const whole = Number.isInteger(window) && window >= 1;
  checkSetting(MECHANISM, 'settings.window', whole, 'a whole number of at least 1', window, 'It counts members.');
  check('query', query, ['batch', 'tokens', 'heads', 'head dim']);
  if (key) check('key', key, ['batch', 'tokens', 'heads', 'head dim']);
  check('value', value, ['batch', 'tokens', 'heads', 'value dim']);
  check('centroids', centroids, ['heads', 'clusters', 'head dim']);
  checkSetting(MECHANISM, 'memoryValue', !memoryKey === !memoryValue, 'given together with memoryKey', !!memoryValue, 'Give both or none.');
  if (memoryKey) check('memoryKey', memoryKey, ['heads', 'clusters', 'memories', 'head dim']);
  if (memoryValue) check('memoryValue', memoryValue, ['heads', 'clusters', 'memories', 'value dim']);
  const slots = centroids.shape[1]! * window;
  check('state.position', state.position, ['batch']);
  check('state.member.key', state['member.key'], ['batch', slots, 'heads', 'head dim']);
  check('state.member.value', state['member.value'], ['batch', slots, 'heads', 'value dim']);
  check('state.member.position', state['member.position'], ['batch', slots, 'heads']);
}
