import { adamWStepKernel } from '@seqloom/core';
import type { FindHeap } from './heap.ts';

/** Installs the fused `AdamWStep`; returns the way back. */
export function implementAdamWStep(findHeap: FindHeap, label: string): () => void {
  return adamWStepKernel.implement({
    backend: 'wasm',
    label,
    forward({ inputs, attributes, backend }) {
      const heap = findHeap(backend);
      const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = attributes;
      const { shape, size } = inputs.parameter;
      const [parameter, firstMoment, secondMoment] = [heap.output(shape), heap.output(shape), heap.output(shape)];
      const given = heap.pointers(inputs.parameter, inputs.gradient, inputs.firstMoment, inputs.secondMoment);
      // both bias corrections folded into two numbers: (m / c1) / (sqrt(v / c2) + e) = sqrt(c2) / c1 * m / (sqrt(v) + e sqrt(c2))
      const root = Math.sqrt(1 - beta2 ** step);
      const rate = (learningRate * root) / (1 - beta1 ** step);
      const made = heap.pointers(parameter, firstMoment, secondMoment);
      const numbers = [gradientScale, 1 - beta1, 1 - beta2, rate, epsilon * root, 1 - learningRate * weightDecay] as const;
      heap.kernels.adamStep(size, ...given, ...made, ...numbers);
      return { parameter, firstMoment, secondMoment };
    },
  });
}
