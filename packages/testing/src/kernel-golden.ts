import * as tf from '@tensorflow/tfjs-core';
import { readSafetensors } from '@seqloom/core';
import { expectCloseTo, tapeGradients, tensorOf } from './kernel-parity.ts';
import { array64 } from './oracle/array64.ts';
import type { Array64 } from './oracle/array64.ts';
import { testPlace } from './place.ts';

/** Reads a golden safetensors file (F32 and I32 tensors) into float64 arrays by tensor name. */
export async function readGoldenArrays(file: URL | string): Promise<Record<string, Array64>> {
  const { tensors } = readSafetensors(await testPlace().read(file));
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { dtype, shape, data }]) => {
      if (!(data instanceof Float32Array || data instanceof Int32Array))
        throw new Error(`${String(file)}: ${name} has dtype ${dtype}, expected F32 or I32`);
      return [name, array64(shape, data)];
    }),
  );
}

/** The array with its axes in another order, as numpy's `transpose`. */
export function transposed64(array: Array64, axes: readonly number[]): Array64 {
  const shape = axes.map((axis) => array.shape[axis]!);
  const strides = array.shape.map((_, axis) => array.shape.slice(axis + 1).reduce((product, extent) => product * extent, 1));
  const result = array64(shape);
  for (let index = 0; index < result.data.length; index++) {
    let rest = index;
    let source = 0;
    for (let axis = axes.length - 1; axis >= 0; axis--) {
      source += (rest % shape[axis]!) * strides[axes[axis]!]!;
      rest = Math.floor(rest / shape[axis]!);
    }
    result.data[index] = array.data[source]!;
  }
  return result;
}

/** One golden case laid out as the op under test wants it. */
export interface KernelGoldenCase {
  readonly inputs: Readonly<Record<string, Array64>>;
  readonly run: (inputs: Record<string, tf.Tensor>) => Readonly<Record<string, tf.Tensor>>;
  /** what each output should be */
  readonly outputs: Readonly<Record<string, Array64>>;
  /** weight of each output in the loss */
  readonly cotangents: Readonly<Record<string, Array64>>;
  /** what the gradient of each of these inputs should be */
  readonly gradients: Readonly<Record<string, Array64>>;
  /** relative rms error of outputs (1e-5) and gradients (1e-4) */
  readonly outputTolerance?: number;
  readonly gradientTolerance?: number;
}

/** Holds an op to vectors of the original implementation on one backend: outputs, gradients, nothing left behind. */
export async function checkKernelGolden(backend: string, golden: KernelGoldenCase): Promise<void> {
  await tf.setBackend(backend);
  await tf.ready();
  const before = tf.memory().numTensors;
  const tensors = (arrays: Readonly<Record<string, Array64>>): Record<string, tf.Tensor> =>
    Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, tensorOf(array)]));
  const inputs = tensors(golden.inputs);
  const outputs = golden.run(inputs);
  for (const [name, array] of Object.entries(golden.outputs)) {
    await expectCloseTo(outputs[name]!, array, golden.outputTolerance ?? 1e-5, name);
  }
  tf.dispose(Object.values(outputs));
  const cotangents = tensors(golden.cotangents);
  const gradients = tapeGradients(golden.run, inputs, cotangents, Object.keys(golden.gradients));
  for (const [name, array] of Object.entries(golden.gradients)) {
    await expectCloseTo(gradients[name]!, array, golden.gradientTolerance ?? 1e-4, `gradient of ${name}`);
  }
  tf.dispose([...Object.values(inputs), ...Object.values(cotangents), ...Object.values(gradients)]);
  if (tf.memory().numTensors !== before) throw new Error(`${tf.memory().numTensors - before} tensors left behind`);
}
