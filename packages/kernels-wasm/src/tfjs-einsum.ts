import * as tf from '@tensorflow/tfjs-core';
import type { Heap } from './heap.ts';
import { matMulOnHeap } from './matmul.ts';
import { permute, shareData } from './tfjs-copy.ts';
import type { Replacement } from './tfjs-kernels.ts';
import { reduceAxes } from './tfjs-reduction.ts';

/** A tensor whose axes have names, numbers here. */
interface Named {
  readonly tensor: tf.TensorInfo;
  readonly names: readonly number[];
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, extent) => product * extent, 1);

/** Sums over the axes that are not in `kept`. */
function sumAway(heap: Heap, { tensor, names }: Named, kept: readonly number[]): Named {
  const axes = names.flatMap((name, axis) => (kept.includes(name) ? [] : [axis]));
  const left = names.filter((name) => kept.includes(name));
  const shape = tensor.shape.filter((_, axis) => !axes.includes(axis));
  return { tensor: reduceAxes(heap, tensor, axes, shape, false), names: left };
}

/** The axes in the order of `names`, by a copy where elements change places. */
function arrange(heap: Heap, { tensor, names }: Named, order: readonly number[]): tf.TensorInfo {
  return permute(
    heap,
    tensor,
    order.map((name) => names.indexOf(name)),
  )!;
}

/** [batch, rows, columns] of a tensor, or [batch, columns, rows] when it lies so already: `transposed` says which. */
function asMatrices(heap: Heap, named: Named, batch: readonly number[], rows: readonly number[], columns: readonly number[]) {
  const extent = (names: readonly number[]): number => sizeOf(names.map((name) => named.tensor.shape[named.names.indexOf(name)]!));
  const swapped = [...batch, ...columns, ...rows];
  const transposed = swapped.every((name, axis) => named.names[axis] === name) && rows.length > 0;
  const tensor = arrange(heap, named, transposed ? swapped : [...batch, ...rows, ...columns]);
  const last = [extent(rows), extent(columns)];
  return { matrices: { ...tensor, shape: [extent(batch), ...(transposed ? last.toReversed() : last)] }, transposed };
}

/** Both operands as batches of matrices, and their product; axes in the order batch, a's own, b's own. */
function contract(heap: Heap, a: Named, b: Named, kept: readonly number[]): Named {
  const batch = kept.filter((name) => a.names.includes(name) && b.names.includes(name));
  const inner = a.names.filter((name) => b.names.includes(name) && !kept.includes(name));
  const own = (names: readonly number[]) => names.filter((name) => !batch.includes(name) && !inner.includes(name));
  const [rows, columns] = [own(a.names), own(b.names)];
  const left = asMatrices(heap, a, batch, rows, inner);
  const right = asMatrices(heap, b, batch, inner, columns);
  const product = matMulOnHeap(heap, {
    a: left.matrices,
    b: right.matrices,
    transposeA: left.transposed,
    transposeB: right.transposed,
  });
  for (const { matrices } of [left, right]) heap.backend.disposeData(matrices.dataId);
  const extents = new Map([a, b].flatMap(({ tensor, names }) => names.map((name, axis) => [name, tensor.shape[axis]!] as const)));
  const names = [...batch, ...rows, ...columns];
  return { tensor: { ...product, shape: names.map((name) => extents.get(name)!) }, names };
}

/** Einstein summation of one or two tensors, through transpositions and matrix products; tfjs-wasm has none. */
export const einsum: Replacement = ({ inputs, attrs }, heap) => {
  const tensors = inputs as unknown as tf.TensorInfo[];
  const { allDims, summedDims, idDims } = tf.backend_util.decodeEinsumEquation(attrs['equation'] as string, tensors.length);
  tf.backend_util.checkEinsumDimSizes(allDims.length, idDims, tensors as tf.Tensor[]);
  if (tensors.some(({ dtype, shape }) => dtype !== 'float32' || sizeOf(shape) === 0))
    throw new Error('Einsum on wasm takes float32 tensors that are not empty');
  // the names are numbered with those of the result first
  const kept = allDims.map((_, name) => name).filter((name) => !summedDims.includes(name));
  const operands = tensors.map((tensor, index) => {
    const others = idDims.flatMap((names, place) => (place === index ? [] : names));
    return sumAway(heap, { tensor, names: idDims[index]! }, [...kept, ...others]);
  });
  const [first, second] = operands as [Named, Named?];
  const result = second
    ? contract(heap, first, second, kept)
    : { ...first, tensor: shareData(heap.backend, first.tensor, first.tensor.shape) };
  const output = arrange(heap, result, kept);
  for (const { tensor } of [...operands, result]) heap.backend.disposeData(tensor.dataId);
  return output;
};
