import { Random, setupBackend } from '@seqloom/core';
import { expectCloseTo, testHardDecays } from '@seqloom/testing';
import type { Arrays64, DeltaRule } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { card } from './card.ts';
import { decayGate, logRates, stepBiases } from './decay-gate.ts';
import { gatedDeltaRule } from './gated-delta-net.ts';
import { GatedDeltaNet } from './layer.ts';
import { naiveGatedDeltaRule } from './naive.ts';
import type { NaiveGatedDeltaInputs } from './naive.ts';

const rule: DeltaRule = {
  card,
  perChannel: false,
  op: gatedDeltaRule,
  naive: (arrays) => naiveGatedDeltaRule(arrays as unknown as NaiveGatedDeltaInputs) as unknown as Arrays64,
};

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  testHardDecays(rule, backend);

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
