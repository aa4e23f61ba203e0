import type * as tf from '@tensorflow/tfjs-core';
import type { Heap } from './heap.ts';

interface Axis {
  readonly extent: number;
  /** bytes between neighbours in the input */
  readonly source: number;
  /** the same in the output */
  target: number;
}

/**
 * Permutes the axes of a tensor of 4-byte elements: output axis i is input axis perm[i].
 *
 * Axes that stay neighbours are taken as one. Where the last axis stays last, whole rows are copied; else the two axes that are contiguous on
 * either side form matrices to transpose.
 */
export function transposeOnHeap(heap: Heap, x: tf.TensorInfo, perm: readonly number[]): tf.TensorInfo {
  const output = heap.output(
    perm.map((axis) => x.shape[axis]!),
    x.dtype as 'float32' | 'int32',
  );
  if (x.shape.includes(0)) return output;
  const strides = x.shape.map((_, axis) => x.shape.slice(axis + 1).reduce((a, b) => a * b, 4));
  // output axes, outermost first, without those of extent 1, neighbours joined
  const axes: Axis[] = [];
  for (const axis of perm) {
    const extent = x.shape[axis]!;
    if (extent === 1) continue;
    const before = axes.at(-1);
    if (before && before.source === extent * strides[axis]!)
      axes.splice(-1, 1, { extent: before.extent * extent, source: strides[axis]!, target: 0 });
    else axes.push({ extent, source: strides[axis]!, target: 0 });
  }
  axes.reduceRight((bytes, axis) => ((axis.target = bytes), bytes * axis.extent), 4);
  const last = axes.at(-1);
  const outer = axes.slice(0, -1);
  const inner = outer.findIndex(({ source }) => source === 4);
  const contiguous = inner < 0;
  const [crossing] = contiguous ? [] : outer.splice(inner, 1);
  heap.scratch(12 * outer.length + 4, (table) => {
    heap.write(
      table,
      outer.flatMap(({ extent, source, target }) => [extent, source, target]),
    );
    const [from, to] = heap.pointers(x, output);
    if (contiguous) heap.kernels.permute(outer.length, table, 4 * (last?.extent ?? 1), 0, from, 0, to, 0);
    else heap.kernels.permute(outer.length, table, last!.extent, crossing!.extent, from, last!.source, to, crossing!.target);
  });
  return output;
}
