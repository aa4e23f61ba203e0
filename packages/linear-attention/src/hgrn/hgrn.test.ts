import { setupBackend } from '@seqloom/core';
import { checkKernelParity, expectCloseTo, gradientsOf, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { hgrn, hgrnComplex } from './hgrn.ts';
import type { HgrnComplexTensors, HgrnTensors } from './hgrn.ts';
import { Hgrn } from './layer.ts';
import { HgrnLowerBounds } from './lower-bounds.ts';
import { naiveHgrn, naiveHgrnComplex, naiveLowerBounds } from './naive.ts';
import type { NaiveHgrnComplexInputs, NaiveHgrnInputs } from './naive.ts';

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  const inputs = {
    input: uniform64([2, 9, 4], 1),
    inputImaginary: uniform64([2, 9, 4], 2),
    logDecay: uniform64([2, 9, 4], 3, -2, 0),
    angle: uniform64([4], 4, -3, 3),
  };

  it.each(['parallel', 'recurrent'] as const)('noncausal-self adds both directions, %s', async (form) => {
    await checkKernelParity(backend, {
      inputs: { input: inputs.input, logDecay: inputs.logDecay },
      differentiate: ['input', 'logDecay'],
      run: (tensors) => {
        const { output, state } = hgrn(tensors as unknown as HgrnTensors, { form, pattern: 'noncausal-self' });
        return { output, ...state };
      },
      oracle: (arrays) => naiveHgrn(arrays as unknown as NaiveHgrnInputs, 'noncausal-self') as unknown as Record<string, Array64>,
    });
    await checkKernelParity(backend, {
      inputs,
      differentiate: ['input', 'inputImaginary', 'logDecay', 'angle'],
      run: (tensors) => {
        const { state, ...outputs } = hgrnComplex(tensors as unknown as HgrnComplexTensors, { form, pattern: 'noncausal-self' });
        return { ...outputs, ...state };
      },
      oracle: (arrays) =>
        naiveHgrnComplex(arrays as unknown as NaiveHgrnComplexInputs, 'noncausal-self') as unknown as Record<string, Array64>,
    });
  });

  it('a masked token changes no state, also between others, and turns nothing', async () => {
    const kept = [0, 2, 3, 7, 8];
    const short = (array: Array64): Array64 => ({
      shape: [1, 5, 4],
      data: Float64Array.from(kept.flatMap((t) => [...array.data.subarray(4 * t, 4 * t + 4)])),
    });
    const first = (array: Array64): tf.Tensor => tf.tensor([...array.data.subarray(0, 36)], [1, 9, 4]);
    const wanted = naiveHgrnComplex({
      input: short(inputs.input),
      inputImaginary: short(inputs.inputImaginary),
      logDecay: short(inputs.logDecay),
      angle: inputs.angle,
    });
    for (const form of ['parallel', 'recurrent'] as const) {
      const { memory, memoryImaginary } = tf.tidy(() => {
        const mask = tf.tensor2d([1, 0, 1, 1, 0, 0, 0, 1, 1], [1, 9]);
        const { input, inputImaginary, logDecay, angle } = inputs;
        const tensors = { input: first(input), inputImaginary: first(inputImaginary), logDecay: first(logDecay) };
        const { state } = hgrnComplex({ ...tensors, angle: tf.tensor1d([...angle.data]) }, { form, mask });
        return { memory: state.memory, memoryImaginary: state.memoryImaginary };
      });
      await expectCloseTo(memory, wanted.memory, 1e-6, 'memory');
      await expectCloseTo(memoryImaginary, wanted.memoryImaginary, 1e-6, 'memoryImaginary');
      tf.dispose([memory, memoryImaginary]);
    }
  });

  it('lower bounds are 0 for the first layer and grow with the layer, whatever Gamma is', async () => {
    const gamma = uniform64([4, 3], 5, -9, 9);
    const bounds = new HgrnLowerBounds({ layers: 4, width: 3 });
    bounds.loadStateDict({ weight: { shape: [4, 3], data: Float32Array.from(gamma.data) } });
    const wanted = naiveLowerBounds(gamma);
    for (let layer = 0; layer < 4; layer++) {
      const bound = bounds.at(layer);
      await expectCloseTo(bound, { shape: [3], data: wanted.data.subarray(3 * layer, 3 * layer + 3) }, 1e-6, `layer ${layer}`);
      bound.dispose();
      if (layer > 0) for (let c = 0; c < 3; c++) expect(wanted.data[3 * layer + c]).toBeGreaterThan(wanted.data[3 * layer + c - 3]!);
    }
    expect(() => bounds.at(4)).toThrow('from 0 to 3');
    bounds.dispose();
  });

  it('layers that share their lower bounds share one parameter, and gradients reach the rows of all layers', async () => {
    const bounds = new HgrnLowerBounds({ layers: 3, width: 8 });
    const layer = new Hgrn({ dim: 8, layers: 3, layer: 1 }, bounds);
    const first = new Hgrn({ dim: 8, layers: 3 }, bounds);
    expect(layer.lowerBounds).toBe(bounds);
    expect([...first.namedParameters().keys()].filter((name) => name.startsWith('lowerBounds'))).toEqual([]);
    const x = tf.tensor(Float32Array.from(uniform64([1, 6, 8], 6).data), [1, 6, 8]);
    const [gradient] = gradientsOf(() => tf.sum(tf.square(layer.forward(x).output)), [bounds.weight.value]);
    const rows = Array.from({ length: 3 }, async (_, row) => {
      const size = tf.tidy(() => tf.max(tf.abs(tf.slice(gradient!, [row, 0], [1, 8]))));
      const [value] = await size.data();
      size.dispose();
      return value!;
    });
    for (const value of await Promise.all(rows)) expect(value).toBeGreaterThan(1e-6);
    tf.dispose([x, gradient!]);
    for (const module of [layer, first, bounds]) module.dispose();
  });

  it('refuses lower bounds of another model', () => {
    const bounds = new HgrnLowerBounds({ layers: 3, width: 4 });
    expect(() => new Hgrn({ dim: 8, layers: 3, layer: 1 }, bounds)).toThrow('lowerBounds');
    bounds.dispose();
  });

  it('has the parameter budget of its doc comment', () => {
    const real = new Hgrn({ dim: 8 });
    const complex = new Hgrn({ dim: 8, expandRatio: 2, complex: true, layers: 3, layer: 2 });
    expect(real.countParameters()).toBe(4 * 8 * 8 + 8);
    // input 2, forget 1, gate 2 and output 2 times dim E, norm 2 E, angle E, and the bounds
    expect(complex.countParameters()).toBe(7 * 8 * 16 + 3 * 16 + 3 * 16);
    for (const layer of [real, complex]) layer.dispose();
  });
});
