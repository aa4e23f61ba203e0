import * as tf from '@tensorflow/tfjs-core';
import { checkIndices, checkSetting, checkTensor } from './check-tensor.ts';
import { defineKernel } from './define.ts';
import type { Kernel } from './define.ts';

/** Tensors that `gatherRows` reads. */
export type GatherRowsInputs = {
  /** float32 [V, D] */
  readonly table: tf.Tensor;
  /** int32, any shape, 0 to V - 1 */
  readonly indices: tf.Tensor;
};

/** Settings of the `GatherRows` kernel: none. */
export type GatherRowsAttributes = Record<string, never>;

/** Tensors that `scatterAddRows` reads. */
export type ScatterAddRowsInputs = {
  /** float32 [N, D] */
  readonly rows: tf.Tensor;
  /** int32 [N], 0 to rowCount - 1 */
  readonly indices: tf.Tensor;
};

/** Settings of the `ScatterAddRows` kernel. */
export type ScatterAddRowsAttributes = {
  /** V, the number of rows of the result */
  readonly rowCount: number;
};

/** The kernel contract behind `gatherRows`; its gradient is `ScatterAddRows`. */
export const gatherRowsKernel: Kernel<GatherRowsInputs, GatherRowsAttributes, 'rows'> = defineKernel<
  GatherRowsInputs,
  GatherRowsAttributes,
  'rows'
>({
  name: 'GatherRows',
  outputs: ['rows'],
  composed({ table, indices }) {
    const shape = [...indices.shape, table.shape[1]!];
    if (indices.size === 0) return { rows: tf.zeros(shape) };
    // GatherNd copies whole rows; GatherV2 goes element by element on wasm, fifteen times slower
    return { rows: tf.reshape(tf.gatherND(table, tf.reshape(indices, [indices.size, 1])), shape) };
  },
  gradient: {
    inputs: ['table'],
    needs: [],
    composed({ table, indices }, _saved, { rows: upstream }) {
      const [rowCount, width] = table.shape as [number, number];
      const rows = tf.reshape(upstream, [indices.size, width]);
      return { table: scatterAddRowsKernel.run({ rows, indices: tf.reshape(indices, [indices.size]) }, { rowCount }).table };
    },
  },
});

/** The kernel contract behind `scatterAddRows`; its gradient is `GatherRows`. */
export const scatterAddRowsKernel: Kernel<ScatterAddRowsInputs, ScatterAddRowsAttributes, 'table'> = defineKernel<
  ScatterAddRowsInputs,
  ScatterAddRowsAttributes,
  'table'
>({
  name: 'ScatterAddRows',
  outputs: ['table'],
  composed({ rows, indices }, { rowCount }) {
    const shape = [rowCount, rows.shape[1]!];
    if (rows.size === 0) return { table: tf.zeros(shape) };
    // ScatterNd adds up rows that share an index, and wasm has it, unlike UnsortedSegmentSum
    return { table: tf.scatterND(tf.reshape(indices, [indices.size, 1]), rows, shape) };
  },
  gradient: {
    inputs: ['rows'],
    needs: [],
    composed: ({ indices }, _saved, { table }) => ({ rows: gatherRowsKernel.run({ table, indices }, {}).rows }),
  },
});

/**
 * Rows of a table by index, differentiable by the table on every backend: `rows[..., :] = table[indices[...], :]`.
 *
 * The lookup of an embedding; its gradient adds up the rows that were read more than once.
 *
 * @param inputs `table` float32 [V, D] and `indices` int32 of any shape, each from 0 to V - 1
 * @returns rows [...indices.shape, D]
 * @throws SeqLoomError when a rank or dtype does not fit, or (on cpu and wasm) an index is out of range
 */
export function gatherRows(inputs: GatherRowsInputs): tf.Tensor {
  const { table, indices } = inputs;
  checkTensor('gather-rows', 'table', table, ['rows', 'channels']);
  checkTensor('gather-rows', 'indices', indices, indices instanceof tf.Tensor ? indices.shape : ['count'], undefined, 'int32');
  checkIndices('gather-rows', 'indices', indices, table.shape[0]!, 0);
  return gatherRowsKernel.run({ table, indices }, {}).rows;
}

/**
 * Adds rows into a table of zeros: `table[v, :] = sum of rows[n, :] over n with indices[n] = v`.
 *
 * @param inputs `rows` float32 [N, D] and `indices` int32 [N], each from 0 to rowCount - 1; duplicates add up
 * @param options `rowCount`, the number of rows V of the result
 * @returns table [V, D]
 * @throws SeqLoomError when a shape or dtype does not fit, or (on cpu and wasm) an index is out of range
 */
export function scatterAddRows(inputs: ScatterAddRowsInputs, options: ScatterAddRowsAttributes): tf.Tensor {
  const { rows, indices } = inputs;
  const rowCount = options?.rowCount;
  const right = Number.isInteger(rowCount) && rowCount > 0;
  checkSetting('scatter-add-rows', 'rowCount', right, 'a whole number of at least 1', rowCount, 'Give the number of rows of the table.');
  const extents = new Map<string, number>();
  checkTensor('scatter-add-rows', 'rows', rows, ['count?', 'channels'], extents);
  checkTensor('scatter-add-rows', 'indices', indices, ['count?'], extents, 'int32');
  checkIndices('scatter-add-rows', 'indices', indices, rowCount, 0);
  return scatterAddRowsKernel.run({ rows, indices }, { rowCount }).table;
}
