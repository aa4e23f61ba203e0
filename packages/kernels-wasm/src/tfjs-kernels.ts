import * as tf from '@tensorflow/tfjs-core';
import type { FindHeap, Heap } from './heap.ts';
import { matMulOnHeap } from './matmul.ts';

type Call = { inputs: Record<string, tf.TensorInfo>; attrs: Record<string, unknown>; backend: unknown };
type Replacement = (call: Call, heap: Heap, original: (call: Call) => tf.TensorInfo) => tf.TensorInfo;

const batchMatMul: Replacement = ({ inputs, attrs }, heap) =>
  matMulOnHeap(heap, {
    a: inputs['a']!,
    b: inputs['b']!,
    transposeA: attrs['transposeA'] as boolean,
    transposeB: attrs['transposeB'] as boolean,
  });

const fusedMatMul: Replacement = (call, heap, original) => {
  const { bias, a, b } = call.inputs;
  const { activation, transposeA, transposeB } = call.attrs as { activation: string; transposeA: boolean; transposeB: boolean };
  if ((activation !== 'linear' && activation !== 'relu') || (bias && bias.shape.length !== 1)) return original(call);
  const output = matMulOnHeap(heap, { a: a!, b: b!, transposeA, transposeB });
  if (bias || activation === 'relu') {
    const n = output.shape.at(-1)!;
    const rows = output.shape.slice(0, -1).reduce((x, y) => x * y, 1);
    heap.kernels.addBias(rows, n, heap.pointer(output), heap.pointer(bias), activation === 'relu' ? 0 : -Infinity);
  }
  return output;
};

const replacements: Readonly<Record<string, Replacement>> = {
  BatchMatMul: batchMatMul,
  _FusedMatMul: fusedMatMul,
};

/**
 * Replaces kernels of tfjs-wasm that are slow, and adds some that it lacks.
 *
 * @param findHeap heap of the backend of a call
 * @returns a function that puts the former kernels back
 */
export function replaceTfjsKernels(findHeap: FindHeap): () => void {
  const undo: (() => void)[] = [];
  for (const [kernelName, replacement] of Object.entries(replacements)) {
    const before = tf.getKernel(kernelName, 'wasm') as tf.KernelConfig | undefined;
    const original = (call: Call): tf.TensorInfo => before!.kernelFunc(call as unknown as Parameters<tf.KernelFunc>[0]) as tf.TensorInfo;
    const config: tf.KernelConfig = {
      kernelName,
      backendName: 'wasm',
      ...(before?.setupFunc && { setupFunc: before.setupFunc }),
      ...(before?.disposeFunc && { disposeFunc: before.disposeFunc }),
      kernelFunc: (call) => replacement(call as unknown as Call, findHeap(call.backend), original),
    };
    if (before) tf.unregisterKernel(kernelName, 'wasm');
    tf.registerKernel(config);
    undo.push(() => {
      // someone may have replaced it again since: then that one stays
      if (tf.getKernel(kernelName, 'wasm') !== config) return;
      tf.unregisterKernel(kernelName, 'wasm');
      if (before) tf.registerKernel(before);
    });
  }
  return () => undo.forEach((step) => step());
}
