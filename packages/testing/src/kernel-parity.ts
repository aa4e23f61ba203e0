import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { centralDifferences, relativeError64, uniform64 } from './oracle/array64.ts';
import type { Array64, Arrays64 } from './oracle/array64.ts';

/** One call of a kernel to be compared with its float64 oracle. */
export interface KernelParityCase {
  /** inputs by name; every number should be a float32, see `uniform64` */
  readonly inputs: Arrays64;
  /** names of inputs that are int32 */
  readonly integers?: readonly string[];
  /** the op under test */
  readonly run: (inputs: Record<string, tf.Tensor>) => Readonly<Record<string, tf.Tensor>>;
  /** its specification */
  readonly oracle: (inputs: Record<string, Array64>) => Readonly<Record<string, Array64>>;
  /** inputs whose gradients are compared with central differences of the oracle; none when left out */
  readonly differentiate?: readonly string[];
  /** outputs that the loss reads; all float32 ones when left out */
  readonly lossTerms?: readonly string[];
  /** largest relative rms error of an output (1e-5) */
  readonly outputTolerance?: number;
  /** largest relative rms error of a gradient (1e-4) */
  readonly gradientTolerance?: number;
  /** step of the central differences, relative to max(1, |x|) */
  readonly step?: number;
}

/** A float64 array as a tensor, float32 unless said. */
export function tensorOf(array: Array64, dtype: 'float32' | 'int32' = 'float32'): tf.Tensor {
  return tf.tensor(dtype === 'int32' ? Int32Array.from(array.data) : Float32Array.from(array.data), [...array.shape], dtype);
}

/**
 * Gradients of sum over outputs of sum(output * cotangent) by the inputs named in `wrt`, through tfjs's tape.
 *
 * @returns gradients by input name, owned by the caller
 */
export function tapeGradients(
  run: (inputs: Record<string, tf.Tensor>) => Readonly<Record<string, tf.Tensor>>,
  inputs: Record<string, tf.Tensor>,
  cotangents: Readonly<Record<string, tf.Tensor>>,
  wrt: readonly string[],
): Record<string, tf.Tensor> {
  const names = Object.keys(cotangents);
  // its gradient is the cotangents themselves, so no gradient of another tfjs op is involved
  const weighted = tf.customGrad((...outputs) => {
    const tensors = outputs.filter((entry): entry is tf.Tensor => entry instanceof tf.Tensor);
    return {
      value: tf.addN(tensors.map((output, index) => tf.sum(tf.mul(output, cotangents[names[index]!]!)))),
      gradFunc: () => names.map((name) => tf.clone(cotangents[name]!)),
    };
  });
  const gradients = tf.grads((...moving: tf.Tensor[]) => {
    const outputs = run({ ...inputs, ...Object.fromEntries(wrt.map((name, index) => [name, moving[index]!])) });
    return weighted(...names.map((name) => outputs[name]!));
  })(wrt.map((name) => inputs[name]!));
  return Object.fromEntries(wrt.map((name, index) => [name, gradients[index]!]));
}

/** Holds a tensor to float64 values: same shape, the same infinities, no NaN, and a small relative rms error. */
export async function expectCloseTo(given: tf.Tensor, wanted: Array64, tolerance: number, label: string): Promise<void> {
  expect(given.shape, `${label}: shape`).toEqual([...wanted.shape]);
  const values = await given.data();
  const finite = { given: [] as number[], wanted: [] as number[] };
  for (let index = 0; index < wanted.data.length; index++) {
    const [mine, right] = [values[index]!, wanted.data[index]!];
    if (Number.isFinite(right)) {
      if (!Number.isFinite(mine)) expect.fail(`${label}: ${mine} at ${index}, wanted ${right}`);
      finite.given.push(mine);
      finite.wanted.push(right);
    } else expect(mine, `${label} at ${index}`).toBe(right);
  }
  expect(relativeError64(finite.given, finite.wanted, 1e-6), `${label}: relative rms error`).toBeLessThan(tolerance);
}

/**
 * Compares an op with its float64 oracle on one tfjs backend: outputs, gradients against central differences, inputs left alone,
 * and no tensor left behind.
 */
export async function checkKernelParity(backend: string, call: KernelParityCase): Promise<void> {
  await tf.setBackend(backend);
  await tf.ready();
  const before = tf.memory().numTensors;
  const given = Object.fromEntries(Object.entries(call.inputs).filter((entry): entry is [string, Array64] => entry[1] !== undefined));
  const integers = call.integers ?? [];
  const wanted = call.oracle(given);
  const inputs = Object.fromEntries(
    Object.entries(given).map(([name, array]) => [name, tensorOf(array, integers.includes(name) ? 'int32' : 'float32')]),
  );
  const held = tf.memory().numTensors;
  const outputs = call.run(inputs);
  expect(tf.memory().numTensors, 'tensors after the forward').toBe(held + new Set(Object.values(outputs)).size);
  for (const [name, array] of Object.entries(wanted)) await expectCloseTo(outputs[name]!, array, call.outputTolerance ?? 1e-5, name);
  const terms = call.lossTerms ?? Object.keys(wanted).filter((name) => outputs[name]!.dtype === 'float32');
  tf.dispose(Object.values(outputs));
  const wrt = (call.differentiate ?? []).filter((name) => given[name]);
  if (wrt.length > 0) {
    const cotangents = Object.fromEntries(terms.map((name, index) => [name, uniform64(wanted[name]!.shape, 7001 + index)]));
    const right = centralDifferences(call.oracle as (inputs: Arrays64) => Arrays64, given, cotangents, wrt, call.step);
    const weights = Object.fromEntries(terms.map((name) => [name, tensorOf(cotangents[name]!)]));
    const gradients = tapeGradients(call.run, inputs, weights, wrt);
    for (const name of wrt) await expectCloseTo(gradients[name]!, right[name]!, call.gradientTolerance ?? 1e-4, `gradient of ${name}`);
    tf.dispose([...Object.values(gradients), ...Object.values(weights)]);
  }
  expect(tf.memory().numTensors, 'tensors after the backward').toBe(held);
  for (const [name, array] of Object.entries(given)) {
    expect(Array.from(await inputs[name]!.data()), `input ${name} untouched`).toEqual(Array.from(array.data, Math.fround));
  }
  tf.dispose(Object.values(inputs));
  expect(tf.memory().numTensors, 'tensors at the end').toBe(before);
}
