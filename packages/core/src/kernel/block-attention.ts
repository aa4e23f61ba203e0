import * as tf from '@tensorflow/tfjs-core';
import {
  blockSizes,
  blockTable,
  blockTile,
  fromBlockTable,
  fromQueryRows,
  fromQueryTile,
  queryRows,
  queryTile,
} from './block-attention/tiles.ts';
import type { BlockSizes } from './block-attention/tiles.ts';
import { checkIndices, checkSetting, checkTensor } from './check-tensor.ts';
import { defineKernel } from './define.ts';
import { scatterAddRowsKernel } from './rows.ts';

/** Tensors that `blockAttention` reads. */
export type BlockAttentionInputs = {
  /** float32 [B, T, H, D] */
  readonly query: tf.Tensor;
  /** [B, S, G, D] with G dividing H; query head h reads key head floor(h * G / H) */
  readonly key: tf.Tensor;
  /** [B, S, G, Dv] */
  readonly value: tf.Tensor;
  /** key blocks that each query block reads, int32 [B, G, ceil(T / queryBlock), K]; -1 for none, each block at most once */
  readonly blocks: tf.Tensor;
};

/** Settings of the `BlockAttention` kernel, all present. */
export type BlockAttentionAttributes = {
  /** factor on the scores */
  readonly scale: number;
  /** whether a query sees only keys up to its own position, i + S - T */
  readonly causal: boolean;
  /** tokens per query block */
  readonly queryBlock: number;
  /** tokens per key block */
  readonly keyBlock: number;
};

/** Settings of `blockAttention`; the block lengths have no default. */
export type BlockAttentionOptions = Partial<BlockAttentionAttributes> & Pick<BlockAttentionAttributes, 'queryBlock' | 'keyBlock'>;

const MECHANISM = 'block-attention';

function tileStarts({ queryBlocks, together }: BlockSizes): { start: number; count: number }[] {
  return Array.from({ length: Math.ceil(queryBlocks / together) }, (_, tile) => {
    const start = tile * together;
    return { start, count: Math.min(together, queryBlocks - start) };
  });
}

function tablesOf({ query, key, value, blocks }: BlockAttentionInputs, { queryBlock, keyBlock }: BlockAttentionAttributes) {
  return { query: queryRows(query, queryBlock), key: blockTable(key, keyBlock), value: blockTable(value, keyBlock), blocks };
}

/** The kernel contract behind `blockAttention`. */
export const blockAttentionKernel = defineKernel<BlockAttentionInputs, BlockAttentionAttributes, 'output' | 'logSumExp'>({
  name: 'BlockAttention',
  outputs: ['output', 'logSumExp'],
  composed(inputs, attributes) {
    const sizes = blockSizes(inputs.query, inputs.key, inputs.value, inputs.blocks, attributes.queryBlock, attributes.keyBlock);
    const tables = tablesOf(inputs, attributes);
    const pieces = tileStarts(sizes).map(({ start, count }) =>
      tf.tidy(() => {
        const { weights, value, logSumExp } = blockTile(tables, start, count, attributes, sizes);
        return [fromQueryTile(tf.matMul(weights, value), count, sizes), fromQueryTile(logSumExp, count, sizes)];
      }),
    );
    const [output, logSumExp] = [0, 1].map((part) =>
      fromQueryRows(
        tf.concat(
          pieces.map((piece) => piece[part]!),
          1,
        ),
        sizes,
      ),
    );
    return { output: output!, logSumExp: tf.reshape(logSumExp!, [sizes.batch, sizes.queries, sizes.heads]) };
  },
  gradient: {
    inputs: ['query', 'key', 'value'],
    needs: ['output', 'logSumExp'],
    composed(inputs, { output }, upstream, attributes) {
      const { queryBlock, keyBlock, scale } = attributes;
      const sizes = blockSizes(inputs.query, inputs.key, inputs.value, inputs.blocks, queryBlock, keyBlock);
      const tables = tablesOf(inputs, attributes);
      const dOutputRows = queryRows(upstream.output, queryBlock);
      // what is taken from every weight's gradient: sum(dO * O) - d logSumExp, one number per query and head
      const along = tf.sub(tf.sum(tf.mul(upstream.output, output), 3), upstream.logSumExp);
      const alongRows = queryRows(tf.expandDims(along, 3), queryBlock);
      let [dKeys, dValues] = [tf.zerosLike(tables.key), tf.zerosLike(tables.value)];
      const dQueries = tileStarts(sizes).map(({ start, count }) => {
        const [dQuery, nextKeys, nextValues] = tf.tidy(() => {
          const { rows, query, key, value, weights } = blockTile(tables, start, count, attributes, sizes);
          const dOutput = queryTile(dOutputRows, start, count, sizes);
          const dWeights = tf.matMul(dOutput, value, false, true);
          const dScores = tf.mul(tf.mul(weights, tf.sub(dWeights, queryTile(alongRows, start, count, sizes))), scale) as tf.Tensor3D;
          const addUp = (table: tf.Tensor, tile: tf.Tensor): tf.Tensor => {
            const [rowCount, width] = table.shape as [number, number];
            const added = scatterAddRowsKernel.run({ rows: tf.reshape(tile, [rows.size, width]), indices: rows }, { rowCount }).table;
            return tf.add(table, added);
          };
          return [
            fromQueryTile(tf.matMul(dScores, key), count, sizes),
            addUp(dKeys, tf.matMul(dScores, query, true)),
            addUp(dValues, tf.matMul(weights, dOutput, true)),
          ];
        }) as [tf.Tensor, tf.Tensor, tf.Tensor];
        tf.dispose([dKeys, dValues]);
        [dKeys, dValues] = [nextKeys, nextValues];
        return dQuery;
      });
      return {
        query: fromQueryRows(tf.concat(dQueries, 1), sizes),
        key: fromBlockTable(dKeys, sizes.keys, sizes.groups, keyBlock),
        value: fromBlockTable(dValues, sizes.keys, sizes.groups, keyBlock),
      };
    },
  },
});

/**
 * Softmax attention in which each block of queries reads a list of key blocks (MoBA, NSA, Quest and other block-sparse attention).
 *
 * `output_i = sum_j softmax_j(scale * q_i . k_j) v_j` over the keys j of the blocks listed for the block of i, per key head; with
 * `causal` only keys up to position i + S - T. Memory grows with T, not with T times K.
 *
 * @param inputs `query` [B, T, H, D], `key` [B, S, G, D], `value` [B, S, G, Dv], `blocks` int32 [B, G, ceil(T / queryBlock), K]
 * @param options `queryBlock` and `keyBlock` (tokens), `scale` (D^-0.5), `causal` (false)
 * @returns `output` [B, T, H, Dv] and `logSumExp` [B, T, H]; a query without keys gives 0 and -Infinity, and zero gradients
 * @throws SeqLoomError when a shape, dtype or setting does not fit, or (on cpu and wasm) a block index is too large
 */
export function blockAttention(inputs: BlockAttentionInputs, options: BlockAttentionOptions): { output: tf.Tensor; logSumExp: tf.Tensor } {
  const { query, key, value, blocks } = inputs;
  const { queryBlock, keyBlock, causal = false } = options ?? {};
  for (const [name, size] of Object.entries({ queryBlock, keyBlock })) {
    checkSetting(
      MECHANISM,
      name,
      Number.isInteger(size) && size > 0,
      'a whole number of at least 1',
      size,
      'Usual blocks have 16 to 128 tokens.',
    );
  }
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'query', query, ['batch', 'queries', 'heads', 'head dim'], extents);
  checkTensor(MECHANISM, 'key', key, ['batch', 'keys', 'key heads', 'head dim'], extents);
  checkTensor(MECHANISM, 'value', value, ['batch', 'keys', 'key heads', 'value dim'], extents);
  const [heads, groups] = [query.shape[2]!, key.shape[2]!];
  checkSetting(
    MECHANISM,
    'key',
    heads % groups === 0,
    `of as many heads as divide the ${heads} query heads`,
    groups,
    'Repeat or drop key heads.',
  );
  const queryBlocks = Math.ceil(query.shape[1]! / queryBlock);
  checkTensor(MECHANISM, 'blocks', blocks, ['batch', 'key heads', queryBlocks, 'blocks per query block'], extents, 'int32');
  checkIndices(MECHANISM, 'blocks', blocks, Math.ceil(key.shape[1]! / keyBlock), -1);
  const scale = options.scale ?? query.shape[3]! ** -0.5;
  checkSetting(MECHANISM, 'scale', Number.isFinite(scale), 'a finite number', scale, 'Leave it out for 1 / sqrt(D).');
  return blockAttentionKernel.run({ query, key, value, blocks }, { scale, causal, queryBlock, keyBlock });
}
