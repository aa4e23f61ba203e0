import { selectiveScanKernel } from '@seqloom/core';
import type { SelectiveScanInputs } from '@seqloom/core';
import type { FindHeap } from './heap.ts';

const sizesOf = ({ input, transition }: SelectiveScanInputs): [batch: number, time: number, channels: number, states: number] => [
  ...(input.shape as [number, number, number]),
  transition.shape[1]!,
];

/** Installs the fused `SelectiveScan`; returns the way back. */
export function implementSelectiveScan(findHeap: FindHeap, label: string): () => void {
  return selectiveScanKernel.implement({
    backend: 'wasm',
    label,
    forward({ inputs, backend }) {
      const heap = findHeap(backend);
      const sizes = sizesOf(inputs);
      const [batch, time, channels, states] = sizes;
      const output = heap.output(inputs.input.shape);
      const final = heap.output([batch, channels, states]);
      heap.scratch(heap.kernels.selectiveScanBytes(time, channels, states, false), (scratch) => {
        const { input, delta, transition, inputMatrix, outputMatrix, skip, state } = inputs;
        const given = heap.pointers(input, delta, transition, inputMatrix, outputMatrix, skip, state);
        heap.kernels.selectiveForward(...sizes, ...given, ...heap.pointers(output, final), scratch);
      });
      return { output, state: final };
    },
    gradient({ inputs, upstream, backend }) {
      const heap = findHeap(backend);
      const sizes = sizesOf(inputs);
      const [, time, channels, states] = sizes;
      const { input, delta, transition, inputMatrix, outputMatrix, skip, state } = inputs;
      const made = {
        input: heap.output(input.shape),
        delta: heap.output(delta.shape),
        transition: heap.output(transition.shape),
        inputMatrix: heap.output(inputMatrix.shape),
        outputMatrix: heap.output(outputMatrix.shape),
        skip: skip && heap.zeros(skip.shape),
        state: state && heap.output(state.shape),
      };
      heap.scratch(heap.kernels.selectiveScanBytes(time, channels, states, true), (scratch) => {
        const given = heap.pointers(input, delta, transition, inputMatrix, outputMatrix, skip, state);
        const outer = heap.pointers(upstream.output, upstream.state);
        const first = heap.pointers(made.input, made.delta, made.transition, made.inputMatrix, made.outputMatrix);
        heap.kernels.selectiveBackward(...sizes, ...given, ...outer, ...first, ...heap.pointers(made.skip, made.state), scratch);
      });
      return made;
    },
  });
}
