import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { registerGradients } from '@seqloom/core';
import { randomStream } from '@seqloom/testing';
import { afterEach, beforeAll, beforeEach, describe, expect } from 'vitest';
import type { Build } from './load.ts';
import { useWasmKernels } from './use-wasm-kernels.ts';

/** Types of the tensors that the kernels take. */
export type DType = 'float32' | 'int32' | 'bool';

/** A tensor's numbers on the host. */
export interface Plain {
  readonly shape: number[];
  readonly dtype: DType;
  readonly data: Float32Array | Int32Array | Uint8Array;
}

/** Random numbers, different for every seed. */
export function plain(shape: number[], seed: number, dtype: DType = 'float32'): Plain {
  const next = randomStream(seed);
  const values = Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 4 * next() - 2);
  if (dtype === 'float32') return { shape, dtype, data: Float32Array.from(values) };
  if (dtype === 'int32') return { shape, dtype, data: Int32Array.from(values, (x) => Math.round(10 * x)) };
  return { shape, dtype, data: Uint8Array.from(values, (x) => (x > 0 ? 1 : 0)) };
}

/** Runs the same ops on a backend and reads all results. */
async function results(backend: string, inputs: readonly Plain[], run: (tensors: tf.Tensor[]) => tf.Tensor | tf.Tensor[]) {
  await tf.setBackend(backend);
  return tf.tidy(() => {
    const given = run(inputs.map(({ shape, dtype, data }) => tf.tensor(data, shape, dtype)));
    return [given].flat().map((tensor) => ({ shape: tensor.shape, dtype: tensor.dtype, data: Array.from(tensor.dataSync()) }));
  });
}

/** Compares with tfjs's cpu backend: bit by bit, or within a tolerance relative to the size of the numbers. */
export async function likeCpu(
  inputs: readonly Plain[],
  run: (tensors: tf.Tensor[]) => tf.Tensor | tf.Tensor[],
  tolerance = 0,
): Promise<void> {
  const wanted = await results('cpu', inputs, run);
  const given = await results('wasm', inputs, run);
  if (tolerance === 0) return expect(given).toEqual(wanted);
  given.forEach(({ data, shape, dtype }, index) => {
    expect([shape, dtype]).toEqual([wanted[index]!.shape, wanted[index]!.dtype]);
    data.forEach((x, place) => {
      const right = wanted[index]!.data[place]!;
      expect(Math.abs(x - right)).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(right)));
    });
  });
}

/** Runs tests of tfjs's own kernels with each build; tensors that a test leaves behind fail it. */
export function describeTfjs(title: string, tests: () => void): void {
  describe.each<Build>(['simd', 'relaxed'])(`${title}, %s build`, (build) => {
    let tensors = 0;
    beforeAll(async () => {
      registerGradients();
      await tf.setBackend('wasm');
      const { undo } = await useWasmKernels({ build });
      return undo;
    });
    beforeEach(() => void (tensors = tf.memory().numTensors));
    afterEach(async () => {
      await tf.setBackend('wasm');
      expect(tf.memory().numTensors).toBe(tensors);
    });
    tests();
  });
}
