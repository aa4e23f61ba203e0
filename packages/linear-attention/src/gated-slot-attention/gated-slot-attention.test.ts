import { setupBackend } from '@seqloom/core';
import { checkKernelParity, expectCloseTo, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { boundedMemoryControl } from './bounded-memory-control.ts';
import { BoundedMemoryControl } from './bounded-memory-layer.ts';
import { gatedSlotAttention } from './gated-slot-attention.ts';
import type { GatedSlotTensors } from './gated-slot-attention.ts';
import { GatedSlotAttention } from './layer.ts';
import { naiveBoundedMemoryControl, naiveGatedSlotAttention } from './naive.ts';
import type { NaiveSlotInputs } from './naive.ts';

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  const inputs = {
    query: uniform64([1, 9, 2, 3], 1, -2, 2),
    key: uniform64([1, 9, 2, 3], 2, -2, 2),
    value: uniform64([1, 9, 2, 4], 3),
    slotLogits: uniform64([1, 9, 2, 2], 4, -3, 3),
  };
  const logDecay = uniform64([1, 9, 2, 2], 5, -1, 0);
  const kept = [1, 2, 6, 7];
  const pick = (array: Array64): Array64 => {
    const size = array.data.length / 9;
    return {
      shape: [1, 4, ...array.shape.slice(2)],
      data: Float64Array.from(kept.flatMap((t) => [...array.data.subarray(t * size, (t + 1) * size)])),
    };
  };
  const tensor = (array: Array64): tf.Tensor => tf.tensor(Float32Array.from(array.data), [...array.shape]);

  it.each(['chunk', 'recurrent'] as const)('a masked token changes no slot, also the first and between others, %s', async (form) => {
    const { query, key, value, slotLogits } = inputs;
    const short = { query: pick(query), key: pick(key), value: pick(value) };
    const gated = naiveGatedSlotAttention({ ...short, logDecay: pick(logDecay) }, 1);
    const bounded = naiveBoundedMemoryControl({ ...short, slotLogits: pick(slotLogits) }, 1);
    const found = tf.tidy(() => {
      const tensors = { query: tensor(query), key: tensor(key), value: tensor(value) };
      const options = { form, scale: 1, chunkSize: 4, mask: tf.tensor2d([0, 1, 1, 0, 0, 0, 1, 1, 0], [1, 9]) };
      const { keySlots, valueSlots } = gatedSlotAttention({ ...tensors, logDecay: tensor(logDecay) }, options).state;
      const { state } = boundedMemoryControl({ ...tensors, slotLogits: tensor(slotLogits) }, options);
      return { keySlots, valueSlots, boundedKeys: state.keySlots, boundedValues: state.valueSlots, logNormaliser: state.logNormaliser };
    });
    await expectCloseTo(found.keySlots, gated.keySlots, 1e-6, 'key slots');
    await expectCloseTo(found.valueSlots, gated.valueSlots, 1e-6, 'value slots');
    await expectCloseTo(found.boundedKeys, bounded.keySlots, 1e-6, 'ABC key slots');
    await expectCloseTo(found.boundedValues, bounded.valueSlots, 1e-6, 'ABC value slots');
    await expectCloseTo(found.logNormaliser, bounded.logNormaliser, 1e-6, 'ABC normaliser');
    tf.dispose(found);
  });

  it('weights of the writes are free, and have gradients', async () => {
    const { query, key, value } = inputs;
    await checkKernelParity(backend, {
      inputs: { query, key, value, logDecay, write: uniform64([1, 9, 2, 2], 6) },
      differentiate: ['query', 'key', 'value', 'logDecay', 'write'],
      run: (tensors) => {
        const { output, state } = gatedSlotAttention(tensors as unknown as GatedSlotTensors, { chunkSize: 4 });
        return { output, ...state };
      },
      oracle: (arrays) => naiveGatedSlotAttention(arrays as unknown as NaiveSlotInputs, 3 ** -0.5) as unknown as Record<string, Array64>,
    });
  });

  it('has the parameter budgets and the state of the doc comments', () => {
    const gated = new GatedSlotAttention({ dim: 16 });
    expect(gated.countParameters()).toBe(4 * 16 * 16 + 4 * 64 * 16 + 16);
    expect(gated.stateBytes(1, 5)).toBe(gated.stateBytes(1, 50_000));
    const bounded = new BoundedMemoryControl({ dim: 16 });
    expect(bounded.countParameters()).toBe(4 * 16 * 16 + 4 * 2 * 16 + 4);
    for (const layer of [gated, bounded]) layer.dispose();
  });
});
