import * as tf from '@tensorflow/tfjs-core';
import type { Heap } from './heap.ts';
import type { Replacement } from './tfjs-kernels.ts';

/** The numbers of a tensor in the heap, valid until the next allocation. */
function view({ backend }: Heap, pointer: number, dtype: tf.DataType, size: number): Float32Array | Int32Array | Uint8Array {
  const { buffer } = backend.wasm.HEAPU8;
  if (dtype === 'float32') return new Float32Array(buffer, pointer, size);
  return dtype === 'int32' ? new Int32Array(buffer, pointer, size) : new Uint8Array(buffer, pointer, size);
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, extent) => product * extent, 1);

/** Rows, batches included, which tfjs-wasm reads from the wrong places. */
const gather: Replacement = (call, heap, original) => {
  const { x, indices } = call.inputs as { x: tf.TensorInfo; indices: tf.TensorInfo };
  const { axis, batchDims } = call.attrs as { axis: number; batchDims: number };
  if ((x.dtype !== 'float32' && x.dtype !== 'int32') || indices.dtype !== 'int32') return original(call);
  const along = tf.util.parseAxisParam(axis, x.shape)[0]!;
  const { batchSize, outerSize, dimSize, sliceSize, outputShape } = tf.backend_util.segment_util.collectGatherOpShapeInfo(
    x as tf.Tensor,
    indices as tf.Tensor,
    along,
    batchDims,
  );
  if (sizeOf(x.shape) === 0 || sizeOf(outputShape) === 0) return original(call);
  const count = sizeOf(indices.shape) / batchSize;
  const places = heap.pointer(indices);
  const wrong = view(heap, places, 'int32', count * batchSize).find((index) => index < 0 || index >= dimSize);
  tf.util.assert(wrong === undefined, () => `GatherV2: the index value ${wrong} is not in [0, ${dimSize - 1}]`);
  const output = heap.output(outputShape, x.dtype);
  let [from, to] = [heap.pointer(x), heap.pointer(output)];
  for (let batch = 0; batch < batchSize; batch++) {
    for (let outer = 0; outer < outerSize; outer++) {
      heap.kernels.gatherRows(count, sliceSize, from, places + 4 * batch * count, to);
      from += 4 * dimSize * sliceSize;
      to += 4 * count * sliceSize;
    }
  }
  return output;
};

/** One-hot rows in the dtype asked for; tfjs-wasm writes whole numbers into float32 ones. */
const oneHot: Replacement = (call, heap, original) => {
  const indices = call.inputs['indices']!;
  const { dtype, depth, onValue, offValue } = call.attrs as { dtype: tf.DataType; depth: number; onValue: number; offValue: number };
  const count = sizeOf(indices.shape);
  if (indices.dtype !== 'int32' || (dtype !== 'float32' && dtype !== 'int32' && dtype !== 'bool') || count * depth === 0)
    return original(call);
  const output = heap.output([...indices.shape, depth], dtype);
  const places = view(heap, heap.pointer(indices), 'int32', count);
  const rows = view(heap, heap.pointer(output), dtype, count * depth).fill(offValue);
  places.forEach((place, row) => {
    if (place >= 0 && place < depth) rows[row * depth + place] = onValue;
  });
  return output;
};

/** Kernels that read or write at indices; tfjs-wasm gets some of their cases wrong. */
export const indexReplacements: Readonly<Record<string, Replacement>> = { GatherV2: gather, OneHot: oneHot };
