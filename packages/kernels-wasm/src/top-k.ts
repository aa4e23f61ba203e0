import { topKKernel } from '@seqloom/core';
import type { FindHeap } from './heap.ts';

/** Installs the fused `TopKRows`; returns the way back. */
export function implementTopK(findHeap: FindHeap, label: string): () => void {
  return topKKernel.implement({
    backend: 'wasm',
    label,
    forward({ inputs: { input }, attributes: { k }, backend }) {
      const heap = findHeap(backend);
      const width = input.shape.at(-1)!;
      const shape = [...input.shape.slice(0, -1), k];
      const [values, indices] = [heap.output(shape), heap.output(shape, 'int32')];
      heap.kernels.topRows(input.size / width, width, k, ...heap.pointers(input, values, indices));
      return { values, indices };
    },
    gradient({ inputs, saved, upstream, attributes: { k }, backend }) {
      const heap = findHeap(backend);
      const width = inputs.input.shape.at(-1)!;
      const input = heap.zeros(inputs.input.shape);
      heap.kernels.spreadRows(inputs.input.size / width, width, k, ...heap.pointers(upstream.values, saved.indices, input));
      return { input };
    },
  });
}
