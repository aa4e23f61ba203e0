import { rmsNormKernel } from '@seqloom/core';
import type { RmsNormAttributes, RmsNormInputs } from '@seqloom/core';
import type { FindHeap } from './heap.ts';

function sizesOf({ input }: RmsNormInputs, { groups }: RmsNormAttributes): [rows: number, groups: number, width: number] {
  const width = input.shape.at(-1)!;
  return [width === 0 ? 0 : input.size / width, groups, width / groups];
}

const settingsOf = ({ epsilon, gateActivation, normBeforeGate }: RmsNormAttributes): [number, number, boolean] => [
  epsilon,
  gateActivation === 'silu' ? 0 : 1,
  normBeforeGate,
];

/** Installs the fused `RmsNorm`; returns the way back. */
export function implementRmsNorm(findHeap: FindHeap, label: string): () => void {
  return rmsNormKernel.implement({
    backend: 'wasm',
    label,
    forward({ inputs, attributes, backend }) {
      const heap = findHeap(backend);
      const output = heap.output(inputs.input.shape);
      const pointers = heap.pointers(inputs.input, inputs.weight, inputs.gate, output);
      heap.kernels.rmsForward(...sizesOf(inputs, attributes), ...pointers, ...settingsOf(attributes));
      return { output };
    },
    gradient({ inputs, upstream, attributes, backend }) {
      const heap = findHeap(backend);
      const input = heap.output(inputs.input.shape);
      const weight = inputs.weight && heap.zeros(inputs.weight.shape);
      const gate = inputs.gate && heap.output(inputs.gate.shape);
      const pointers = heap.pointers(inputs.input, inputs.weight, inputs.gate, upstream.output, input, weight, gate);
      heap.kernels.rmsBackward(...sizesOf(inputs, attributes), ...pointers, ...settingsOf(attributes));
      return { input, weight, gate };
    },
  });
}
