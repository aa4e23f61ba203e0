import { readFile } from 'node:fs/promises';
import * as tf from '@tensorflow/tfjs-core';
import { expectCloseTo, tapeGradients, tensorOf } from './kernel-parity.ts';
import { array64 } from './oracle/array64.ts';
import type { Array64 } from './oracle/array64.ts';

/** Reads a golden safetensors file (F32 and I32 tensors) into float64 arrays by tensor name. */
export async function readGoldenArrays(file: URL | string): Promise<Record<string, Array64>> {
  const bytes = await readFile(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  return Object.fromEntries(
    Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .map(
        ([
          name,
          {
            dtype,
            shape,
            data_offsets: [start, end],
          },
        ]) => {
          const body = bytes.buffer.slice(bytes.byteOffset + 8 + length + start, bytes.byteOffset + 8 + length + end);
          if (dtype !== 'F32' && dtype !== 'I32') throw new Error(`${String(file)}: ${name} has dtype ${dtype}, expected F32 or I32`);
          return [name, array64(shape, dtype === 'I32' ? new Int32Array(body) : new Float32Array(body))];
        },
      ),
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
