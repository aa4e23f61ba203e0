import * as tf from '@tensorflow/tfjs-core';
import type { Heap } from './heap.ts';

interface MatMulCall {
  readonly a: tf.TensorInfo;
  readonly b: tf.TensorInfo;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

const product = (extents: readonly number[]): number => extents.reduce((total, extent) => total * extent, 1);

/**
 * Batched matrix product: out = op(a) op(b), batch axes broadcast.
 *
 * @param heap heap that holds the tensors
 * @param call a [..., M, K] or [..., K, M] when transposed, b [..., K, N] or [..., N, K], float32
 * @returns [..., M, N]
 */
export function matMulOnHeap(heap: Heap, { a, b, transposeA, transposeB }: MatMulCall): tf.TensorInfo {
  if (a.dtype !== 'float32' || b.dtype !== 'float32') throw new Error('BatchMatMul for non non-float32 tensors not yet supported.');
  const [aRows, aColumns] = a.shape.slice(-2) as [number, number];
  const [bRows, bColumns] = b.shape.slice(-2) as [number, number];
  const [m, k] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
  const [inner, n] = transposeB ? [bColumns, bRows] : [bRows, bColumns];
  tf.util.assert(
    k === inner,
    () =>
      `Error in matMul: inner shapes (${k}) and (${inner}) of Tensors with shapes ${a.shape} and ${b.shape} and transposeA=${transposeA} and transposeB=${transposeB} must match.`,
  );
  const aBatch = a.shape.slice(0, -2);
  const bBatch = b.shape.slice(0, -2);
  const outBatch = tf.broadcast_util.assertAndGetBroadcastShape(aBatch, bBatch);
  const out = heap.output([...outBatch, m, n]);
  const batch = product(outBatch);
  if (batch * m * n === 0) return out;
  const { kernels } = heap;
  heap.scratch(kernels.packBytes(n, k), (pack) => {
    const [pa, pb, pc] = [heap.pointer(a), heap.pointer(b), heap.pointer(out)];
    const [aSize, bSize, cSize] = [4 * m * k, 4 * k * n, 4 * m * n];
    const [lda, ldb] = [4 * aColumns, 4 * bColumns];
    const aCount = product(aBatch);
    const bCount = product(bBatch);
    if (bCount === 1 && !transposeA && aCount === batch) {
      // one matrix on the right: all rows on the left are one product
      kernels.gemm(batch * m, n, k, pa, lda, false, pb, ldb, transposeB, pc, 4 * n, 1, false, pack);
    } else if ((aCount === batch || aCount === 1) && (bCount === batch || bCount === 1)) {
      const [strideA, strideB] = [aCount === 1 ? 0 : aSize, bCount === 1 ? 0 : bSize];
      kernels.batchGemm(batch, m, n, k, pa, strideA, lda, transposeA, pb, strideB, ldb, transposeB, pc, cSize, 4 * n, pack);
    } else {
      for (let index = 0; index < batch; index++) {
        const from = pa + aSize * broadcastIndex(index, outBatch, aBatch);
        const times = pb + bSize * broadcastIndex(index, outBatch, bBatch);
        kernels.gemm(m, n, k, from, lda, transposeA, times, ldb, transposeB, pc + cSize * index, 4 * n, 1, false, pack);
      }
    }
  });
  return out;
}

/** Row-major index into `shape` of element `index` of the shape it is broadcast to. */
function broadcastIndex(index: number, outer: readonly number[], shape: readonly number[]): number {
  let result = 0;
  let step = 1;
  for (let axis = outer.length - 1, own = shape.length - 1; own >= 0; axis--, own--) {
    const place = index % outer[axis]!;
    index = Math.floor(index / outer[axis]!);
    if (shape[own]! > 1) result += place * step;
    step *= shape[own]!;
  }
  return result;
}
