import * as tf from '@tensorflow/tfjs-core';
import type { FindHeap, Heap } from './heap.ts';
import { matMulOnHeap } from './matmul.ts';
import { copyReplacements } from './tfjs-copy.ts';
import { einsum } from './tfjs-einsum.ts';
import { elementwiseReplacements } from './tfjs-elementwise.ts';
import { indexReplacements } from './tfjs-index.ts';
import { reductionReplacements } from './tfjs-reduction.ts';

/** What tfjs hands to a kernel. */
export interface KernelCall {
  readonly inputs: Record<string, tf.TensorInfo>;
  readonly attrs: Record<string, unknown>;
  readonly backend: unknown;
}

type Result = tf.TensorInfo | tf.TensorInfo[];

/** A kernel of ours in the place of `original`, which it may call for what it does not do itself. */
export type Replacement = (call: KernelCall, heap: Heap, original: (call: KernelCall) => Result) => Result;

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

const size = (shape: readonly number[]): number => shape.reduce((x, y) => x * y, 1);

const unsortedSegmentSum: Replacement = ({ inputs, attrs }, heap) => {
  const [x, segmentIds] = [inputs['x']!, inputs['segmentIds']!];
  if (x.dtype !== 'float32') throw new Error(`UnsortedSegmentSum on wasm takes float32, got ${x.dtype}`);
  const segments = attrs['numSegments'] as number;
  const rest = x.shape.slice(1);
  const output = heap.zeros([segments, ...rest]);
  const [rows, ids, sums] = heap.pointers(x, segmentIds, output);
  heap.kernels.segmentSum(x.shape[0]!, size(rest), rows, ids, segments, sums);
  return output;
};

const replacements: Readonly<Record<string, Replacement>> = {
  BatchMatMul: batchMatMul,
  _FusedMatMul: fusedMatMul,
  UnsortedSegmentSum: unsortedSegmentSum,
  Einsum: einsum,
  ...copyReplacements,
  ...elementwiseReplacements,
  ...indexReplacements,
  ...reductionReplacements,
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
    const original = (call: KernelCall): Result => before!.kernelFunc(call as unknown as Parameters<tf.KernelFunc>[0]);
    const config: tf.KernelConfig = {
      kernelName,
      backendName: 'wasm',
      ...(before?.setupFunc && { setupFunc: before.setupFunc }),
      ...(before?.disposeFunc && { disposeFunc: before.disposeFunc }),
      kernelFunc: (call) => replacement(call as unknown as KernelCall, findHeap(call.backend), original),
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
