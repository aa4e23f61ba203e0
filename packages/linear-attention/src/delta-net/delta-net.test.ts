import { setupBackend } from '@seqloom/core';
import { checkKernelParity, expectCloseTo, opTensor, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { unitLength } from '../rule/unit-length.ts';
import { deltaRule } from './delta-net.ts';
import type { DeltaRuleTensors } from './delta-net.ts';
import { DeltaNet } from './layer.ts';
import { naiveDeltaRule } from './naive.ts';
import type { NaiveDeltaInputs } from './naive.ts';

const norm = (memory: tf.Tensor): number => tf.tidy(() => tf.norm(memory).dataSync()[0]!);

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it.each(['chunk', 'recurrent'] as const)('padding anywhere writes nothing, %s', async (form) => {
    const inputs = {
      query: uniform64([2, 9, 2, 4], 1),
      key: uniform64([2, 9, 2, 4], 2, -0.5, 0.5),
      value: uniform64([2, 9, 2, 3], 3),
      beta: uniform64([2, 9, 2], 4, 0, 1),
      memory: uniform64([2, 2, 4, 3], 5),
      mask: { shape: [2, 9], data: Float64Array.of(0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 0) },
    };
    await checkKernelParity(backend, {
      inputs,
      differentiate: ['query', 'key', 'value', 'beta', 'memory'],
      run: ({ mask, memory, ...tensors }) => {
        const { output, state } = deltaRule(tensors as unknown as DeltaRuleTensors, {
          form,
          chunkSize: 4,
          state: { memory: memory! },
          mask: mask!,
        });
        return { output, memory: state.memory };
      },
      oracle: (arrays) => naiveDeltaRule(arrays as unknown as NaiveDeltaInputs) as unknown as Record<string, Array64>,
    });
  });

  // every token multiplies the memory by I - beta k k^T, whose norm is at most one for beta in [0, 2] and keys of length one; at two it
  // is a reflection, so that nothing hides growth: what is lost over the run is the epsilon of the unit length
  it('a memory that is only corrected never grows, nor vanishes when it is only reflected', () => {
    const length = backend === 'wasm' ? 20_000 : 1000;
    let memory = opTensor(uniform64([1, 1, 4, 4], 1));
    const start = norm(memory);
    for (const [piece, lowest] of [2, 2, 2, 2, 2, 0].entries()) {
      const before = norm(memory);
      const corrected = tf.tidy(() => {
        const key = unitLength(opTensor(uniform64([1, length, 1, 4], 2 + piece)));
        const beta = opTensor(uniform64([1, length, 1], 20 + piece, lowest, 2));
        return deltaRule({ query: key, key, value: tf.zeros([1, length, 1, 4]), beta }, { state: { memory } }).state.memory;
      });
      memory.dispose();
      memory = corrected;
      expect(norm(memory)).toBeLessThanOrEqual(before * (1 + 1e-5));
      if (lowest === 2) expect(norm(memory)).toBeGreaterThan(0.9 * start);
    }
    memory.dispose();
  });

  // beta of exactly two reflects: the norm is kept, and the same key twice is no change at all
  it('beta of two is a reflection: twice at the same key restores the memory', async () => {
    const memory = uniform64([1, 1, 4, 4], 3);
    const tensors = tf.tidy(() => {
      const key = tf.tile(unitLength(opTensor(uniform64([1, 1, 1, 4], 4))), [1, 200, 1, 1]);
      return { query: key, key, value: tf.zeros([1, 200, 1, 4]), beta: tf.fill([1, 200, 1], 2) };
    });
    const given = opTensor(memory);
    for (const form of ['chunk', 'recurrent'] as const) {
      const { output, state } = deltaRule(tensors, { form, state: { memory: given } });
      // the key's length is one but for rounding and for an epsilon of 1e-6, which 200 reflections multiply
      await expectCloseTo(state.memory, memory, 1e-3, form);
      tf.dispose([output, { ...state }]);
    }
    tf.dispose([tensors, given]);
  });

  it('the layer has the parameters that its documentation states', () => {
    const [dim, heads] = [32, 4];
    const convolutions = 12 * dim;
    for (const [outputGate, squares] of [
      [false, 4],
      [true, 5],
    ] as const) {
      const layer = new DeltaNet({ dim, heads, outputGate });
      expect(layer.countParameters()).toBe(squares * dim ** 2 + dim * heads + convolutions + dim / heads);
      expect(layer.stateBytes(3, 1)).toBe(layer.stateBytes(3, 100_000));
      layer.dispose();
    }
  });
});
