import * as tf from '@tensorflow/tfjs-core';
import { gatherRowsKernel } from '../rows.ts';
import { sliceTime } from '../../numerics/slice-time.ts';

/** Extents of one block attention call. */
export interface BlockSizes {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  /** key heads G; query head h reads key head floor(h * G / H) */
  readonly groups: number;
  readonly headDim: number;
  readonly valueDim: number;
  readonly queryBlock: number;
  readonly keyBlock: number;
  readonly queryBlocks: number;
  readonly keyBlocks: number;
  /** key blocks per query block, K */
  readonly chosen: number;
  /** query blocks that are computed together */
  readonly together: number;
}

// elements of gathered keys, values and scores that may live at once
const TILE_ELEMENTS = 1 << 21;
// far below any score, yet finite: infinities would turn into NaN in a row without keys
const FAR = 1e30;

/** Works out the extents; `together` bounds memory, so that it grows with T and not with T times K. */
export function blockSizes(
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  blocks: tf.Tensor,
  queryBlock: number,
  keyBlock: number,
): BlockSizes {
  const [batch, queries, heads, headDim] = query.shape as [number, number, number, number];
  const [, keys, groups, valueDim] = value.shape as [number, number, number, number];
  const chosen = blocks.shape[3]!;
  const queryBlocks = Math.ceil(queries / queryBlock);
  const perBlock = batch * groups * chosen * keyBlock * (headDim + valueDim + (heads / groups) * queryBlock);
  return {
    batch,
    queries,
    keys,
    heads,
    groups,
    headDim,
    valueDim,
    queryBlock,
    keyBlock,
    queryBlocks,
    keyBlocks: Math.ceil(key.shape[1]! / keyBlock),
    chosen,
    together: Math.min(queryBlocks, Math.max(1, Math.floor(TILE_ELEMENTS / perBlock))),
  };
}

// [B, N, H, D] to [B, H, N', D] with N' a multiple of the block
function headsFirst(input: tf.Tensor, block: number): tf.Tensor {
  const missing = (block - (input.shape[1]! % block)) % block;
  const filled =
    missing === 0
      ? input
      : tf.pad(input, [
          [0, 0],
          [0, missing],
          [0, 0],
          [0, 0],
        ]);
  return tf.transpose(filled, [0, 2, 1, 3]);
}

/** Keys or values [B, S, G, D] as one row per block: [B * G * keyBlocks, keyBlock * D]. */
export function blockTable(input: tf.Tensor, keyBlock: number): tf.Tensor {
  return tf.reshape(headsFirst(input, keyBlock), [-1, keyBlock * input.shape[3]!]);
}

/** The inverse of `blockTable`, without the filling. */
export function fromBlockTable(table: tf.Tensor, keys: number, groups: number, keyBlock: number): tf.Tensor {
  const width = table.shape[1]! / keyBlock;
  const batch = table.size / (Math.ceil(keys / keyBlock) * keyBlock * groups * width);
  const whole = tf.transpose(tf.reshape(table, [batch, groups, -1, width]), [0, 2, 1, 3]);
  return whole.shape[1] === keys ? whole : tf.slice(whole, [0, 0, 0, 0], [batch, keys, groups, width]);
}

/** Something per query [B, T, H, D] as rows per head: [B * H, T', D]. */
export function queryRows(input: tf.Tensor, queryBlock: number): tf.Tensor {
  const rows = headsFirst(input, queryBlock);
  return tf.reshape(rows, [rows.shape[0]! * rows.shape[1]!, rows.shape[2]!, rows.shape[3]!]);
}

/** The inverse of `queryRows`, without the filling. */
export function fromQueryRows(rows: tf.Tensor, { batch, heads, queries }: BlockSizes): tf.Tensor {
  const [, length, width] = rows.shape as [number, number, number];
  const whole = tf.transpose(tf.reshape(rows, [batch, heads, length, width]), [0, 2, 1, 3]);
  return whole.shape[1] === queries ? whole : tf.slice(whole, [0, 0, 0, 0], [batch, queries, heads, width]);
}

/** `count` query blocks from block `start` on: [B * H, T', D] to [B * G * count, r * queryBlock, D], r query heads per key head. */
export function queryTile(rows: tf.Tensor, start: number, count: number, sizes: BlockSizes): tf.Tensor3D {
  const { batch, heads, groups, queryBlock } = sizes;
  const width = rows.shape[2]!;
  const cut = sliceTime(rows, start * queryBlock, count * queryBlock);
  const apart = tf.transpose(tf.reshape(cut, [batch * groups, heads / groups, count, queryBlock * width]), [0, 2, 1, 3]);
  return tf.reshape(apart, [batch * groups * count, (heads / groups) * queryBlock, width]);
}

/** The inverse of `queryTile`: [B * H, count * queryBlock, D]. */
export function fromQueryTile(tile: tf.Tensor, count: number, { batch, heads, groups, queryBlock }: BlockSizes): tf.Tensor {
  const width = tile.shape[2]!;
  const apart = tf.transpose(tf.reshape(tile, [batch * groups, count, heads / groups, queryBlock * width]), [0, 2, 1, 3]);
  return tf.reshape(apart, [batch * heads, count * queryBlock, width]);
}

/** One tile of block attention: the keys that its query blocks chose, and the weights on them. */
export interface BlockTile {
  /** row of `blockTable` for each chosen block, int32 [B * G * count * K]; row 0 of its head for none */
  readonly rows: tf.Tensor1D;
  /** [B * G * count, r * queryBlock, D] */
  readonly query: tf.Tensor3D;
  /** [B * G * count, K * keyBlock, D] */
  readonly key: tf.Tensor3D;
  readonly value: tf.Tensor3D;
  /** softmax weights, all 0 in a row without keys, [B * G * count, r * queryBlock, K * keyBlock] */
  readonly weights: tf.Tensor3D;
  /** [B * G * count, r * queryBlock, 1] */
  readonly logSumExp: tf.Tensor3D;
}

// 1 where a query may see a key, else 0: [B * G * count, 1, queryBlock or 1, K * keyBlock]
function visibility(chosen: tf.Tensor, start: number, count: number, causal: boolean, sizes: BlockSizes): tf.Tensor {
  const { batch, groups, keys, queries, queryBlock, keyBlock, chosen: many } = sizes;
  // flat rows: tfjs-webgpu broadcasts at most four axes
  const first = tf.reshape(tf.mul(tf.cast(chosen, 'float32'), keyBlock), [batch * groups * count * many, 1]);
  const position = tf.reshape(tf.add(first, tf.range(0, keyBlock, 1, 'float32')), [batch * groups, count, 1, many * keyBlock]);
  // -1 for none makes negative positions
  let seen: tf.Tensor = tf.logicalAnd(tf.greaterEqual(position, 0), tf.less(position, keys));
  if (causal) {
    const from = start * queryBlock + keys - queries;
    const own = tf.reshape(tf.range(from, from + count * queryBlock, 1, 'float32'), [1, count, queryBlock, 1]);
    seen = tf.logicalAnd(tf.lessEqual(position, own), seen);
  }
  return tf.reshape(tf.cast(seen, 'float32'), [batch * groups * count, 1, -1, many * keyBlock]);
}

/** Gathers the chosen blocks of `count` query blocks from `start` on and computes their softmax weights. */
export function blockTile(
  tables: { readonly query: tf.Tensor; readonly key: tf.Tensor; readonly value: tf.Tensor; readonly blocks: tf.Tensor },
  start: number,
  count: number,
  settings: { readonly scale: number; readonly causal: boolean },
  sizes: BlockSizes,
): BlockTile {
  const { batch, groups, heads, headDim, valueDim, queryBlock, keyBlock, keyBlocks, chosen } = sizes;
  const tiles = batch * groups * count;
  const picked = tf.slice(tables.blocks, [0, 0, start, 0], [batch, groups, count, chosen]);
  const firstRow = tf.mul(tf.range(0, batch * groups, 1, 'int32'), tf.scalar(keyBlocks, 'int32'));
  const real = tf.reshape(tf.maximum(picked, tf.scalar(0, 'int32')), [batch * groups, count * chosen]);
  const rows = tf.reshape(tf.add(real, tf.reshape(firstRow, [batch * groups, 1])), [tiles * chosen]) as tf.Tensor1D;
  const gather = (table: tf.Tensor, width: number) =>
    tf.reshape(gatherRowsKernel.run({ table, indices: rows }, {}).rows, [tiles, chosen * keyBlock, width]) as tf.Tensor3D;
  const query = queryTile(tables.query, start, count, sizes);
  const [key, value] = [gather(tables.key, headDim), gather(tables.value, valueDim)];
  const seen = visibility(picked, start, count, settings.causal, sizes);
  const scores = tf.reshape(tf.mul(tf.matMul(query, key, false, true), settings.scale), [tiles, heads / groups, queryBlock, -1]);
  const masked = tf.add(scores, tf.mul(tf.sub(seen, 1), FAR));
  const top = tf.max(masked, 3, true);
  const raised = tf.mul(tf.exp(tf.sub(masked, top)), seen);
  const total = tf.sum(raised, 3, true); // at least 1, or 0 in a row without keys
  const flat = (part: tf.Tensor) => tf.reshape(part, [tiles, (heads / groups) * queryBlock, -1]) as tf.Tensor3D;
  return {
    rows,
    query,
    key,
    value,
    weights: flat(tf.div(raised, tf.maximum(total, 0.5))),
    logSumExp: flat(tf.add(top, tf.log(total))),
  };
}
