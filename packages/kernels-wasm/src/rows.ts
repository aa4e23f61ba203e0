import { gatherRowsKernel, scatterAddRowsKernel } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import type { FindHeap, Heap } from './heap.ts';

function gather(heap: Heap, table: tf.Tensor, indices: tf.Tensor): tf.TensorInfo {
  const width = table.shape[1]!;
  const rows = heap.output([...indices.shape, width]);
  heap.kernels.gatherRows(indices.size, width, ...heap.pointers(table, indices, rows));
  return rows;
}

function scatterAdd(heap: Heap, rows: tf.Tensor, indices: tf.Tensor, shape: [number, number]): tf.TensorInfo {
  const table = heap.zeros(shape);
  heap.kernels.scatterAddRows(indices.size, shape[1], ...heap.pointers(rows, indices, table));
  return table;
}

/** Installs the fused `GatherRows` and `ScatterAddRows`; returns the way back. */
export function implementRows(findHeap: FindHeap, label: string): () => void {
  const undoGather = gatherRowsKernel.implement({
    backend: 'wasm',
    label,
    forward: ({ inputs, backend }) => ({ rows: gather(findHeap(backend), inputs.table, inputs.indices) }),
    gradient: ({ inputs, upstream, backend }) => ({
      table: scatterAdd(findHeap(backend), upstream.rows, inputs.indices, inputs.table.shape as [number, number]),
    }),
  });
  const undoScatter = scatterAddRowsKernel.implement({
    backend: 'wasm',
    label,
    forward: ({ inputs, attributes, backend }) => ({
      table: scatterAdd(findHeap(backend), inputs.rows, inputs.indices, [attributes.rowCount, inputs.rows.shape[1]!]),
    }),
    gradient: ({ inputs, upstream, backend }) => ({ rows: gather(findHeap(backend), upstream.table, inputs.indices) }),
  });
  return () => {
    undoGather();
    undoScatter();
  };
}
