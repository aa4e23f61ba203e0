import { expertMatMulKernel } from '@seqloom/core';
import type { ExpertMatMulInputs } from '@seqloom/core';
import type { FindHeap } from './heap.ts';

/** Sizes of a call, as the WebAssembly functions take them. */
function sizesOf({ input, weight }: ExpertMatMulInputs): [number, number, number, number] {
  return [input.shape[0]!, ...(weight.shape as [number, number, number])];
}

/** Installs the fused `ExpertMatMul`; returns the way back. */
export function implementExpertMatMul(findHeap: FindHeap, label: string): () => void {
  return expertMatMulKernel.implement({
    backend: 'wasm',
    label,
    forward({ inputs, backend }) {
      const heap = findHeap(backend);
      const sizes = sizesOf(inputs);
      const output = heap.output([sizes[0], sizes[3]]);
      if (sizes[0] === 0) return { output };
      heap.scratch(heap.kernels.expertBytes(...sizes), (scratch) => {
        const [x, ids, w, y] = heap.pointers(inputs.input, inputs.experts, inputs.weight, output);
        heap.kernels.expertForward(...sizes, x, ids, w, y, scratch);
      });
      return { output };
    },
    gradient({ inputs, upstream, backend }) {
      const heap = findHeap(backend);
      const sizes = sizesOf(inputs);
      if (sizes[0] === 0) return { input: heap.output(inputs.input.shape), weight: heap.zeros(inputs.weight.shape) };
      const [input, weight] = [heap.output(inputs.input.shape), heap.output(inputs.weight.shape)];
      heap.scratch(heap.kernels.expertBytes(...sizes), (scratch) => {
        const [x, ids, w, dy, dx, dw] = heap.pointers(inputs.input, inputs.experts, inputs.weight, upstream.output, input, weight);
        heap.kernels.expertBackward(...sizes, x, ids, w, dy, dx, dw, scratch);
      });
      return { input, weight };
    },
  });
}
