import * as tf from '@tensorflow/tfjs-core';
import { matMul } from './wgsl/matmul.ts';
import { toFloat } from './wgsl/run.ts';

/** What tfjs hands to a kernel. */
interface KernelCall {
  readonly inputs: Record<string, tf.TensorInfo>;
  readonly attrs: Record<string, unknown>;
  readonly backend: unknown;
}

/** A kernel of ours in the place of `original`, which it calls for what it does not do itself. */
type Replacement = (call: KernelCall, original: (call: KernelCall) => tf.TensorInfo | tf.TensorInfo[]) => tf.TensorInfo | tf.TensorInfo[];

interface MatMulAttributes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly activation?: string;
}

const batchMatMul: Replacement = (call, original) => {
  const { a, b, bias } = call.inputs as { a: tf.TensorInfo; b: tf.TensorInfo; bias?: tf.TensorInfo };
  const { transposeA, transposeB, activation = 'linear' } = call.attrs as unknown as MatMulAttributes;
  const plain = a.dtype === 'float32' && b.dtype === 'float32' && (!bias || bias.shape.length === 1);
  if (!plain || (activation !== 'linear' && activation !== 'relu')) return original(call);
  return matMul(call.backend as tf.KernelBackend, { a, b, transposeA, transposeB, bias, activation });
};

// tfjs only renames the type, and its own transpose is among the shaders that then do not compile
const cast: Replacement = (call, original) => {
  const { x } = call.inputs as { x: tf.TensorInfo };
  const isWhole = x.dtype === 'int32' || x.dtype === 'bool';
  return isWhole && call.attrs['dtype'] === 'float32' ? toFloat(call.backend as tf.KernelBackend, x) : original(call);
};

const replacements: Readonly<Record<string, Replacement>> = { BatchMatMul: batchMatMul, _FusedMatMul: batchMatMul, Cast: cast };

/**
 * Replaces kernels of tfjs-webgpu that are slow or wrong.
 *
 * @returns a function that puts the former kernels back
 */
export function replaceTfjsKernels(): () => void {
  const undo: (() => void)[] = [];
  for (const [kernelName, replacement] of Object.entries(replacements)) {
    const before = tf.getKernel(kernelName, 'webgpu') as tf.KernelConfig | undefined;
    // without tfjs-backend-webgpu there is nothing to replace, and it would put its own in place when it comes
    if (!before) continue;
    const original = (call: KernelCall) => before.kernelFunc(call as unknown as Parameters<tf.KernelFunc>[0]);
    const config: tf.KernelConfig = {
      ...before,
      kernelFunc: (call) => replacement(call as unknown as KernelCall, original),
    };
    tf.unregisterKernel(kernelName, 'webgpu');
    tf.registerKernel(config);
    undo.push(() => {
      // someone may have replaced it again since: then that one stays
      if (tf.getKernel(kernelName, 'webgpu') !== config) return;
      tf.unregisterKernel(kernelName, 'webgpu');
      tf.registerKernel(before);
    });
  }
  return () => undo.forEach((step) => step());
}
