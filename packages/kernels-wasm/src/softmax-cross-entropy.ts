import { softmaxCrossEntropyKernel } from '@seqloom/core';
import type { FindHeap } from './heap.ts';

/** Installs the fused `SoftmaxCrossEntropy`; returns the way back. */
export function implementSoftmaxCrossEntropy(findHeap: FindHeap, label: string): () => void {
  return softmaxCrossEntropyKernel.implement({
    backend: 'wasm',
    label,
    forward({ inputs, attributes: { labelSmoothing, zLoss, softCap }, backend }) {
      const heap = findHeap(backend);
      const [rows, count] = inputs.logits.shape as [number, number];
      const loss = heap.output([rows]);
      const logSumExp = heap.output([rows]);
      heap.scratch(4 * count, (line) => {
        const [x, labels, l, z] = heap.pointers(inputs.logits, inputs.labels, loss, logSumExp);
        heap.kernels.crossEntropyForward(rows, count, x, labels, labelSmoothing, zLoss, softCap ?? 0, l, z, line);
      });
      return { loss, logSumExp };
    },
    gradient({ inputs, saved, upstream, attributes: { labelSmoothing, zLoss, softCap }, backend }) {
      const heap = findHeap(backend);
      const [rows, count] = inputs.logits.shape as [number, number];
      const logits = heap.output([rows, count]);
      heap.scratch(4 * count, (line) => {
        const [x, labels] = heap.pointers(inputs.logits, inputs.labels);
        const outer = heap.pointers(saved.logSumExp, upstream.loss, upstream.logSumExp, logits);
        heap.kernels.crossEntropyBackward(rows, count, x, labels, labelSmoothing, zLoss, softCap ?? 0, ...outer, line);
      });
      return { logits };
    },
  });
}
