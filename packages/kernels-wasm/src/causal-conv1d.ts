import { causalConv1dKernel } from '@seqloom/core';
import type { CausalConv1dInputs } from '@seqloom/core';
import type { FindHeap } from './heap.ts';

function sizesOf({ input, weight }: CausalConv1dInputs): [batch: number, time: number, channels: number, taps: number] {
  return [...(input.shape as [number, number, number]), weight.shape[1]!];
}

/** Installs the fused `CausalConv1d`; returns the way back. */
export function implementCausalConv1d(findHeap: FindHeap, label: string): () => void {
  return causalConv1dKernel.implement({
    backend: 'wasm',
    label,
    forward({ inputs, attributes, backend }) {
      const heap = findHeap(backend);
      const { input, weight, bias, state, lengths } = inputs;
      const sizes = sizesOf(inputs);
      const [batch, , channels, taps] = sizes;
      const output = heap.output(input.shape);
      const final = heap.output([batch, taps - 1, channels]);
      heap.scratch(heap.kernels.convolutionBytes(channels, taps), (scratch) => {
        const [x, w, b, s, l, o, f] = heap.pointers(input, weight, bias, state, lengths, output, final);
        const whole = lengths?.dtype === 'int32';
        heap.kernels.convolutionForward(...sizes, attributes.activation === 'silu', x, w, b, s, l, whole, o, f, scratch);
      });
      return { output, state: final };
    },
    gradient({ inputs, upstream, attributes, backend }) {
      const heap = findHeap(backend);
      const sizes = sizesOf(inputs);
      const input = heap.zeros(inputs.input.shape);
      const weight = heap.output(inputs.weight.shape);
      const bias = inputs.bias && heap.zeros(inputs.bias.shape);
      const state = inputs.state && heap.zeros(inputs.state.shape);
      heap.scratch(heap.kernels.convolutionBytes(sizes[2], sizes[3]), (scratch) => {
        const [x, w, b, s, l] = heap.pointers(inputs.input, inputs.weight, inputs.bias, inputs.state, inputs.lengths);
        const outer = heap.pointers(upstream.output, upstream.state, input, weight, bias, state);
        const whole = inputs.lengths?.dtype === 'int32';
        heap.kernels.convolutionBackward(...sizes, attributes.activation === 'silu', x, w, b, s, l, whole, ...outer, scratch);
      });
      return { input, weight, bias, state };
    },
  });
}
