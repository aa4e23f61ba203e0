import { Random, setupBackend, tidy } from '@seqloom/core';
import { checkKernelParity, expectCloseTo, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { decayGate, logRates, stepBiases } from './decay-gate.ts';
import { gatedDeltaRule } from './gated-delta-net.ts';
import { GatedDeltaNet } from './layer.ts';
import { naiveGatedDeltaRule } from './naive.ts';
import type { NaiveGatedDeltaInputs } from './naive.ts';
import type { GatedDeltaTensors } from './value-groups.ts';

/** Log decays of every size, beta of 0, 1 and 2, keys at most of length one. */
function hardInputs(length: number): Record<string, Array64> {
  const decays = [0, -100, -1e-7, -0.5, 0, -30, -1e-3, 0, -2].map(Math.fround);
  const cycle = (shape: number[], values: readonly number[]): Array64 => ({
    shape,
    data: Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, at) => values[(at * 7 + (at >> 4)) % values.length]!),
  });
  return {
    query: uniform64([2, length, 2, 4], 1),
    key: uniform64([2, length, 2, 4], 2, -0.5, 0.5),
    value: uniform64([2, length, 2, 3], 3),
    logDecay: cycle([2, length, 2], decays),
    beta: cycle([2, length, 2], [0, 1, 2, 0.5]),
    memory: uniform64([2, 2, 4, 3], 5),
  };
}

const oracle = (arrays: Readonly<Record<string, Array64 | undefined>>): Record<string, Array64> =>
  naiveGatedDeltaRule(arrays as unknown as NaiveGatedDeltaInputs) as unknown as Record<string, Array64>;

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it.each(['chunk', 'recurrent'] as const)('padding anywhere neither fades nor writes, %s', async (form) => {
    const mask = { shape: [2, 9], data: Float64Array.of(0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 0) };
    await checkKernelParity(backend, {
      inputs: { ...hardInputs(9), mask },
      differentiate: ['query', 'key', 'value', 'logDecay', 'beta', 'memory'],
      run: ({ mask: given, memory, ...tensors }) => {
        const settings = { form, chunkSize: 4, state: { memory: memory! }, mask: given! };
        const { output, state } = gatedDeltaRule(tensors as unknown as GatedDeltaTensors, settings);
        return { output, memory: state.memory };
      },
      oracle,
    });
  });

  it('pieces with log decays from 0 to -100 give outputs, memory and gradients of the whole', async () => {
    await checkKernelParity(backend, {
      inputs: hardInputs(30),
      differentiate: ['query', 'key', 'value', 'logDecay', 'beta', 'memory'],
      run: ({ memory, ...tensors }) =>
        tidy(() => {
          let state = { memory: memory! };
          const outputs: tf.Tensor[] = [];
          let start = 0;
          for (const size of [1, 13, 2, 1, 13]) {
            const piece = Object.entries(tensors).map(([name, tensor]) => [name, tf.slice(tensor!, [0, start], [2, size])]);
            const result = gatedDeltaRule(Object.fromEntries(piece) as unknown as GatedDeltaTensors, { state, chunkSize: 8 });
            outputs.push(result.output);
            state = result.state;
            start += size;
          }
          return { output: tf.concat(outputs, 1), memory: state.memory };
        }),
      oracle,
    });
  });

  it('the decay gate is right from -100 to 100, and its gradients are finite', async () => {
    const inputs = [-100, -20, -1, 0, 1, 20, 100];
    const [x, logRate, stepBias] = [tf.tensor1d(inputs), tf.tensor1d([Math.log(16)]), tf.tensor1d([-2])];
    const softplus = (z: number): number => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));
    const gate = decayGate(x, logRate, stepBias);
    await expectCloseTo(gate, { shape: [7], data: Float64Array.from(inputs, (z) => -16 * softplus(z - 2)) }, 1e-6, 'gate');
    expect(Math.max(...(await gate.data()))).toBeLessThanOrEqual(0);
    const gradients = tf.grads((...args: tf.Tensor[]) => tf.sum(decayGate(args[0]!, args[1]!, args[2]!)))([x, logRate, stepBias]);
    for (const gradient of gradients) expect([...(await gradient.data())].every(Number.isFinite)).toBe(true);
    tf.dispose([x, logRate, stepBias, gate, gradients]);
  });

  it('rates and step sizes start in the ranges of Mamba-2', () => {
    const rates = logRates(0, 16)([1000], new Random(1)).map(Math.exp);
    const steps = stepBiases([1000], new Random(1)).map((bias) => Math.log1p(Math.exp(bias)));
    for (const [values, lowest, highest] of [
      [rates, 0, 16],
      [steps, 0.001, 0.1],
    ] as const) {
      expect(Math.min(...values)).toBeGreaterThan(lowest * 0.999);
      expect(Math.max(...values)).toBeLessThan(highest * 1.001);
      expect(Math.max(...values)).toBeGreaterThan(highest * 0.9);
    }
  });

  it('the layer has the parameters that its documentation states', () => {
    const [dim, heads] = [32, 4];
    for (const outputGate of [true, false]) {
      const layer = new GatedDeltaNet({ dim, heads, outputGate });
      const valueDim = (2 * (outputGate ? 0.75 : 1) * dim) / heads;
      const convolutions = (outputGate ? 12 : 16) * dim;
      expect(layer.countParameters()).toBe(6 * dim ** 2 + 2 * dim * heads + 2 * heads + convolutions + valueDim);
      expect(layer.stateBytes(3, 1)).toBe(layer.stateBytes(3, 100_000));
      layer.dispose();
    }
  });
});
