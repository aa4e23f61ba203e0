import { rotaryKernel } from '@seqloom/core';
import type { RotaryInputs } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import type { FindHeap, Heap } from './heap.ts';

function turn(heap: Heap, input: tf.Tensor, { cos, sin }: RotaryInputs, interleaved: boolean, sign: number): tf.TensorInfo {
  const [batch, time, heads, width] = input.shape as [number, number, number, number];
  const pairs = cos.shape[2]!;
  const output = heap.output(input.shape);
  const [x, c, s, y] = heap.pointers(input, cos, sin, output);
  heap.kernels.rotary(batch, time, heads, width, pairs, interleaved, sign, x, c, s, cos.shape[0] === 1 ? 0 : 4 * time * pairs, y);
  return output;
}

/** Installs the fused `Rotary`; returns the way back. */
export function implementRotary(findHeap: FindHeap, label: string): () => void {
  return rotaryKernel.implement({
    backend: 'wasm',
    label,
    supports: ({ cos, sin }) => cos.shape[0] === sin.shape[0] || 'cos and sin differ in their batch axis',
    forward: ({ inputs, attributes, backend }) => ({ output: turn(findHeap(backend), inputs.input, inputs, attributes.interleaved, 1) }),
    // the transpose of a rotation is the rotation by the opposite angle
    gradient: ({ inputs, upstream, attributes, backend }) => ({
      input: turn(findHeap(backend), upstream.output, inputs, attributes.interleaved, -1),
    }),
  });
}
