import * as tf from '@tensorflow/tfjs-core';
import { alignedPositions, joinTime } from '@seqloom/attention';
import { gatherRowsKernel, softmaxAttention, tidy } from '@seqloom/core';
import type { PartialAttention } from '@seqloom/core';
import type { Heads } from './list-attention.ts';

// elements of gathered keys and values that may live at once
const TILE_ELEMENTS = 1 << 22;

/** Where the tokens of a joined cache stand, per row. */
export interface CachePlaces {
  /** [B], column of the token at position 0: cached length minus tokens seen */
  readonly origin: tf.Tensor;
  /** [B, T], positions of the new tokens */
  readonly positions: tf.Tensor;
}

/**
 * Places of cached and new tokens, once new ones are joined behind a right-aligned cache.
 *
 * @param position [B], tokens seen before
 * @param cached L, entries of the cache
 * @param fresh T, new tokens
 */
export function cachePlaces(position: tf.Tensor, cached: number, fresh: number): CachePlaces {
  return tidy(() => ({
    origin: tf.sub(cached, position),
    positions: tf.add(tf.reshape(position, [-1, 1]), tf.range(0, fresh, 1, 'float32')),
  }));
}

/**
 * Cached and new tokens by column: those of the new cache, unless padding moved them.
 *
 * @param before the cache [B, L, G, D], of keys or of values
 * @param tokens [B, T, G, D]
 * @param after the new cache
 * @param lengths [B], valid new tokens; null: all
 * @returns [B, L + T, G, D]
 */
export function joinedColumns(before: tf.Tensor, tokens: tf.Tensor, after: tf.Tensor, lengths: tf.Tensor1D | null): tf.Tensor {
  return lengths ? joinTime(before, tokens) : after;
}

/**
 * Columns of the tokens in listed blocks, as far as each query may see them.
 *
 * @param blocks whole numbers in float32 [B, R, T, K], -1 for none
 * @param places where tokens stand
 * @param block tokens per block
 * @param take how many tokens of each block to list, its first ones; default all
 * @returns float32 [B, T, R, K take], -1 where there is no such token or it comes after the query
 */
export function tokensOfBlocks(blocks: tf.Tensor, { origin, positions }: CachePlaces, block: number, take = block): tf.Tensor4D {
  return tidy(() => {
    const [batch, lists, length, many] = blocks.shape as [number, number, number, number];
    // flat rows: tfjs-webgpu broadcasts at most four axes
    const chosen = tf.reshape(tf.transpose(blocks, [0, 2, 1, 3]), [batch * length * lists * many, 1]);
    const token = tf.reshape(tf.add(tf.mul(chosen, block), tf.range(0, take, 1, 'float32')), [batch, length, lists, many * take]);
    const own = tf.reshape(positions, [batch, length, 1, 1]);
    // whole numbers: clip(x + 1, 0, 1) says x >= 0
    const seen = tf.mul(tf.clipByValue(tf.add(tf.sub(own, token), 1), 0, 1), tf.clipByValue(tf.add(token, 1), 0, 1));
    const column = tf.add(token, tf.add(tf.reshape(origin, [batch, 1, 1, 1]), 1));
    return tf.sub(tf.mul(column, seen), 1) as tf.Tensor4D;
  });
}

/**
 * Attention of each query to listed tokens, which alone are read: for decoding, where a query has a list of its own.
 *
 * @param heads query [B, T, H, D], key [B, N, G, D], value [B, N, G, Dv]
 * @param columns float32 [B, T, R, n], -1 for none, with R = G (one list per key head) or R = H (one per query head)
 * @param scale factor on the scores
 * @returns output [B, T, H, Dv] and logSumExp [B, T, H]; 0 and -Infinity where a list is empty
 */
export function gatheredAttention({ query, key, value }: Heads, columns: tf.Tensor4D, scale: number): PartialAttention {
  const [batch, length, heads, headDim] = query.shape as [number, number, number, number];
  const [, keys, groups, valueDim] = value.shape as [number, number, number, number];
  const [, , lists, many] = columns.shape;
  const together = Math.max(1, Math.floor(TILE_ELEMENTS / (batch * lists * many * (headDim + valueDim))));
  return tidy(() => {
    // list r reads key head floor(r G / R) of row b
    const head = Float32Array.from({ length: batch * lists }, (_, i) => {
      const group = Math.floor(((i % lists) * groups) / lists);
      return Math.floor(i / lists) * keys * groups + group;
    });
    const first = tf.tensor(head, [batch, 1, lists, 1]);
    const table = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [batch * keys * groups, x.shape[3]!]);
    const [keyTable, valueTable] = [table(key), table(value)];
    const pieces: PartialAttention[] = [];
    for (let from = 0; from < length; from += together) {
      const count = Math.min(together, length - from);
      const rows = batch * count * lists;
      const cut = count === length ? columns : tf.slice(columns, [0, from, 0, 0], [batch, count, lists, many]);
      const asked = count === length ? query : tf.slice(query, [0, from, 0, 0], [batch, count, heads, headDim]);
      const exists = tf.reshape(tf.clipByValue(tf.add(cut, 1), 0, 1), [rows, many]) as tf.Tensor2D;
      const row = tf.add(tf.mul(tf.relu(cut), groups), first);
      const indices = tf.cast(tf.reshape(row, [rows * many]), 'int32');
      const gather = (rowsOf: tf.Tensor, width: number): tf.Tensor =>
        tf.reshape(gatherRowsKernel.run({ table: rowsOf, indices }, {}).rows, [rows, many, 1, width]);
      const { output, logSumExp } = softmaxAttention(
        {
          query: tf.reshape(asked, [rows, 1, heads / lists, headDim]),
          key: gather(keyTable, headDim),
          value: gather(valueTable, valueDim),
          keyPositions: alignedPositions(exists),
        },
        { aligned: true, scale },
      );
      pieces.push({
        output: tf.reshape(output, [batch, count, heads, valueDim]),
        logSumExp: tf.reshape(logSumExp, [batch, count, heads]),
      });
    }
    if (pieces.length === 1) return pieces[0]!;
    const join = (part: keyof PartialAttention): tf.Tensor =>
      tf.concat(
        pieces.map((piece) => piece[part]),
        1,
      );
    return { output: join('output'), logSumExp: join('logSumExp') };
  });
}
