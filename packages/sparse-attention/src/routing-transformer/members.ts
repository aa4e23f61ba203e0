import * as tf from '@tensorflow/tfjs-core';
import { alignedPositions } from '@seqloom/attention';
import { blockAttentionKernel, gatherRows, scatterAddRows, softmaxAttention } from '@seqloom/core';

/** Where cached members [B, H, R] and new ones [B, H, T] stand in the list of all members; together they fill it. */
export interface MemberPlaces {
  readonly cached: tf.Tensor;
  readonly fresh: tf.Tensor;
}

/** All members sorted by cluster and time, with a way to rows by place. */
export interface MemberList {
  /** [B, H, L, E] where heads come first, else [B, L, H, E] */
  readonly table: tf.Tensor4D;
  /** rows at places [B, H, N], as [B, N, H, E] */
  readonly rowsAt: (places: tf.Tensor) => tf.Tensor;
  /** flat row numbers of places [B, H, N], in the order of [B, N, H] */
  readonly flat: (places: tf.Tensor) => tf.Tensor1D;
}

/**
 * Sorts members into their list.
 *
 * @param rows [B, L, H, E], cached members and then new ones
 * @param headsFirst layout of the table
 */
export function memberList(rows: tf.Tensor, { cached, fresh }: MemberPlaces, headsFirst: boolean): MemberList {
  const [batch, length, heads, width] = rows.shape as [number, number, number, number];
  const [perRow, perHead, step] = headsFirst ? [heads * length, length, 1] : [length * heads, 1, heads];
  const corner = tf.add(
    tf.reshape(tf.range(0, batch * perRow, perRow, 'float32'), [batch, 1, 1]),
    tf.reshape(tf.range(0, heads * perHead, perHead, 'float32'), [1, heads, 1]),
  );
  const flat = (places: tf.Tensor): tf.Tensor1D => {
    const numbers = tf.transpose(tf.add(tf.mul(places, step), corner), [0, 2, 1]);
    return tf.cast(tf.reshape(numbers, [-1]), 'int32');
  };
  const all = tf.reshape(rows, [batch * length * heads, width]);
  const indices = flat(tf.concat([cached, fresh], 2));
  const sorted = scatterAddRows({ rows: all, indices }, { rowCount: batch * length * heads });
  return {
    table: tf.reshape(sorted, headsFirst ? [batch, heads, length, width] : [batch, length, heads, width]),
    flat,
    rowsAt: (places) => tf.reshape(gatherRows({ table: sorted, indices: flat(places) }), [batch, places.shape[2]!, heads, width]),
  };
}

/** What both ways of reading members share. */
interface MemberCall {
  /** [B, T, H, D] */
  readonly query: tf.Tensor;
  /** [B, T, H, Dv] */
  readonly value: tf.Tensor;
  readonly list: MemberList;
  readonly window: number;
  readonly scale: number;
  /** [B, H, T], members of a query's cluster up to it, its own left out */
  readonly others: tf.Tensor;
  /** D, Dv and 1, the parts of a row: key, value, position (0 in an empty slot) */
  readonly sizes: readonly [number, number, number];
}

/**
 * Shared queries and keys: in the sorted list every query stands at its own key, so its cluster is a window that ends just before it.
 *
 * @param call `list` with heads first, and `place` [B, H, T] of each token
 * @returns [B, T, H, Dv]; the own value where there is nothing else
 */
export function windowOverList({ query, value, list, place, window, scale, others, sizes }: MemberCall & { place: tf.Tensor }): tf.Tensor {
  const [batch, length, heads, headDim] = query.shape as [number, number, number, number];
  const total = list.table.shape[2];
  const boxes = batch * heads;
  const [key, values, marks] = tf.split(tf.reshape(list.table, [boxes, total, 1, -1]), [...sizes], 3) as [tf.Tensor, tf.Tensor, tf.Tensor];
  // one place earlier, a causal window leaves the own key out
  const indices = list.flat(tf.sub(place, 1));
  const asked = scatterAddRows({ rows: tf.reshape(query, [batch * length * heads, headDim]), indices }, { rowCount: boxes * total });
  const exists = tf.clipByValue(tf.reshape(marks, [boxes, total]), 0, 1) as tf.Tensor2D;
  const { output } = softmaxAttention(
    { query: tf.reshape(asked, [boxes, total, 1, headDim]), key, value: values, keyPositions: alignedPositions(exists) },
    { causal: true, window: window - 1, aligned: true, scale },
  );
  const seen = tf.reshape(gatherRows({ table: tf.reshape(output, [boxes * total, -1]), indices }), value.shape);
  const alone = tf.transpose(tf.sub(1, tf.clipByValue(others, 0, 1)), [0, 2, 1]); // [B, T, H]
  return tf.add(seen, tf.mul(value, tf.expandDims(alone, 3)));
}

/**
 * Members of each query as a list of its own, on the `BlockAttention` kernel: for few new tokens, keys of their own, and memories.
 *
 * @param call `list` with time first; `end` [B, H, T] behind the last member that a query sees; `cluster` [B, H, T]
 * @returns [B, T, H, Dv], 0 where a query sees nothing
 */
export function listedMembers(
  call: MemberCall & {
    readonly end: tf.Tensor;
    readonly shared: boolean;
    readonly cluster: tf.Tensor;
    readonly memoryKey?: tf.Tensor | undefined;
    readonly memoryValue?: tf.Tensor | undefined;
  },
): tf.Tensor {
  const { query, list, end, window, scale, others, sizes, shared, cluster, memoryKey, memoryValue } = call;
  const batch = query.shape[0]!;
  const total = list.table.shape[1];
  const [key, value] = tf.split(list.table, [...sizes], 3) as [tf.Tensor, tf.Tensor];
  const age = tf.range(window - 1, -1, -1, 'float32');
  // members that count, the own one included where it is shared
  const many = shared ? tf.add(others, 1) : others;
  // whole numbers: clip(x, 0, 1) says x >= 1
  let exists: tf.Tensor = tf.clipByValue(tf.sub(tf.expandDims(many, 3), age), 0, 1); // [B, H, T, w]
  if (shared) {
    // the newest member is the query itself: it stays only where it is alone
    const alone = memoryKey ? tf.zerosLike(others) : window === 1 ? tf.onesLike(others) : tf.sub(1, tf.clipByValue(others, 0, 1));
    const own = tf.clipByValue(tf.sub(1, age), 0, 1); // 1 at age 0
    exists = tf.mul(exists, tf.sub(1, tf.mul(own, tf.sub(1, tf.expandDims(alone, 3)))));
  }
  const place = tf.sub(tf.expandDims(end, 3), age); // one too many, so that 0 is left for none
  const members = tf.sub(tf.mul(place, exists), 1);
  if (!memoryKey || !memoryValue) return attend(query, key, value, members, scale);
  const memories = memoryKey.shape[2]!;
  const first = tf.expandDims(tf.mul(tf.cast(cluster, 'float32'), memories), 3);
  const places = tf.add(first, tf.range(total, total + memories, 1, 'float32'));
  const [keys, values] = [tf.concat([key, spread(memoryKey, batch)], 1), tf.concat([value, spread(memoryValue, batch)], 1)];
  return attend(query, keys, values, tf.concat([members, places], 3), scale);
}

function attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, lists: tf.Tensor, scale: number): tf.Tensor {
  const blocks = tf.cast(lists, 'int32');
  return blockAttentionKernel.run({ query, key, value, blocks }, { scale, causal: false, queryBlock: 1, keyBlock: 1 }).output;
}

/** Memories [H, C, M, D] as keys of every row: [B, C M, H, D]. */
function spread(memory: tf.Tensor, batch: number): tf.Tensor {
  const [heads, clusters, memories, width] = memory.shape as [number, number, number, number];
  const one = tf.transpose(tf.reshape(memory, [heads, clusters * memories, width]), [1, 0, 2]);
  const all = tf.add(tf.reshape(one, [1, clusters * memories * heads * width]), tf.zeros([batch, 1]));
  return tf.reshape(all, [batch, clusters * memories, heads, width]);
}
