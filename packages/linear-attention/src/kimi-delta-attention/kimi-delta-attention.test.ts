import { setupBackend } from '@seqloom/core';
import { expectCloseTo, opTensor, testHardDecays, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, DeltaRule } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import type { GatedDeltaTensors } from '../gated-delta-net/value-groups.ts';
import { card } from './card.ts';
import { kimiDeltaAttention } from './kimi-delta-attention.ts';
import { KimiDeltaAttention } from './layer.ts';
import { naiveKimiDeltaAttention } from './naive.ts';
import type { NaiveKimiDeltaInputs } from './naive.ts';

const rule: DeltaRule = {
  card,
  perChannel: true,
  op: kimiDeltaAttention,
  naive: (arrays) => naiveKimiDeltaAttention(arrays as unknown as NaiveKimiDeltaInputs) as unknown as Arrays64,
};

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  testHardDecays(rule, backend);

  // beta of two and hardly any decay: nothing damps the rounding errors of 5000 steps but the rule itself
  it('after 5000 tokens of reflections the memory is that of the specification', async () => {
    const length = 5000;
    const arrays: Record<string, Array64> = {
      query: uniform64([1, length, 1, 4], 1),
      key: uniform64([1, length, 1, 4], 2),
      value: uniform64([1, length, 1, 3], 3, -1e-3, 1e-3),
      logDecay: uniform64([1, length, 1, 4], 4, -1e-5, 0),
      beta: { shape: [1, length, 1], data: new Float64Array(length).fill(2) },
      memory: uniform64([1, 1, 4, 3], 5),
    };
    const keys = arrays.key!.data;
    for (let row = 0; row < keys.length; row += 4) {
      const size = Math.hypot(...keys.subarray(row, row + 4));
      for (let d = row; d < row + 4; d++) keys[d] = Math.fround(keys[d]! / size);
    }
    const wanted = rule.naive(arrays);
    const tensors = Object.fromEntries(
      Object.entries(arrays).map(([name, array]) => [name, opTensor(array)]),
    ) as unknown as GatedDeltaTensors;
    const { memory, ...rest } = tensors as GatedDeltaTensors & { memory: tf.Tensor };
    const { output, state } = kimiDeltaAttention(rest, { state: { memory } });
    // each step rounds by 2^-24, and no step shrinks what the steps before left
    await expectCloseTo(state.memory, wanted.memory!, length * 2 ** -24, 'memory');
    await expectCloseTo(output, wanted.output!, length * 2 ** -24, 'output');
    tf.dispose([{ ...tensors }, output, { ...state }]);
  });

  it('a lowest log decay bounds the gate, whatever the input', () => {
    const layer = new KimiDeltaAttention({ dim: 8, heads: 2, kernelSize: 0, lowestLogDecay: -5 });
    const x = tf.fill([1, 40, 8], 100);
    const start = { memory: tf.ones([1, 2, 4, 4]), position: tf.zeros([1]) };
    // beta near zero writes nothing: what is left after a token is what the gate keeps
    layer.beta!.weight.assign(tf.tidy(() => tf.fill([8, 2], -1)));
    const one = tf.slice(x, [0, 0, 0], [1, 1, 8]);
    const { output, state } = layer.forward(one, { state: start });
    const kept = [...state.memory!.dataSync()];
    expect(Math.min(...kept)).toBeGreaterThanOrEqual(Math.exp(-5) * (1 - 1e-5));
    expect(Math.max(...kept)).toBeLessThanOrEqual(1);
    tf.dispose([x, one, start, output, { ...state }]);
    layer.dispose();
  });

  it('the layer has the parameters that its documentation states', () => {
    const [dim, heads] = [32, 4];
    const width = dim / heads;
    const layer = new KimiDeltaAttention({ dim, heads });
    const gates = 4 * dim * width + dim;
    expect(layer.countParameters()).toBe(4 * dim ** 2 + gates + dim * heads + dim + heads + 12 * dim + width);
    expect(layer.stateBytes(3, 1)).toBe(layer.stateBytes(3, 100_000));
    layer.dispose();
  });
});
