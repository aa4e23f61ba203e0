import { setupBackend } from '@seqloom/core';
import { checkKernelParity, expectCloseTo, opTensor, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { applyFeatureMap, featureDimOf } from './feature-maps.ts';
import type { FeatureMap } from './feature-maps.ts';
import { LinearAttention } from './layer.ts';
import { naiveFeatureMap } from './naive-feature-maps.ts';
import { naiveLinearAttention } from './naive.ts';
import type { NaiveInputs } from './naive.ts';
import { linearAttention } from './op.ts';
import type { LinearAttentionSettings, LinearAttentionTensors } from './settings.ts';

const plain: FeatureMap[] = [
  { name: 'elu1' },
  { name: 'relu' },
  { name: 'identity' },
  { name: 'silu' },
  { name: 'softmax' },
  { name: 'dpfp', nu: 1 },
  { name: 'dpfp', nu: 3 },
  { name: 'taylor2' },
  { name: 'taylor2', symmetric: true },
];

// running softmax of every key feature: the efficient map has no features of its own in the naive form
function naiveEfficient(inputs: Record<string, Array64>, causal: boolean): { output: Array64 } {
  const { query, key, value, mask } = inputs as { query: Array64; key: Array64; value: Array64; mask?: Array64 };
  const [batch, length, heads, width] = query.shape as [number, number, number, number];
  const valueDim = value.shape[3]!;
  const output = { shape: [batch, length, heads, valueDim], data: new Float64Array(batch * length * heads * valueDim) };
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < length; i++) {
        const row = ((b * length + i) * heads + h) * width;
        const q = naiveFeatureMap(Array.from(query.data.subarray(row, row + width)), { name: 'efficient' });
        for (let f = 0; f < width; f++) {
          const weights: number[] = [];
          for (let j = 0; j < (causal ? i + 1 : length); j++) {
            weights[j] = mask && mask.data[b * length + j] === 0 ? 0 : Math.exp(key.data[((b * length + j) * heads + h) * width + f]!);
          }
          const sum = weights.reduce((a, c) => a + c, 0) || 1;
          weights.forEach((weight, j) => {
            for (let e = 0; e < valueDim; e++) {
              output.data[((b * length + i) * heads + h) * valueDim + e]! +=
                q[f]! * (weight / sum) * value.data[((b * length + j) * heads + h) * valueDim + e]!;
            }
          });
        }
      }
    }
  }
  return { output };
}

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it.each(plain)('the feature map $name $nu $symmetric equals its specification', async (map) => {
    const x = uniform64([6, 5], 1, -3, 3);
    const tensor = opTensor(x);
    const features = applyFeatureMap(tensor, map);
    const width = featureDimOf(map, 5);
    const wanted = Float64Array.from(
      Array.from({ length: 6 }, (_, row) => naiveFeatureMap(Array.from(x.data.subarray(row * 5, row * 5 + 5)), map)).flat(),
    );
    await expectCloseTo(features, { shape: [6, width], data: wanted }, 1e-6, map.name);
    tf.dispose([tensor, features]);
  });

  const query = uniform64([2, 9, 4, 3], 1, -2, 2);
  const key = (length: number): Array64 => uniform64([2, length, 2, 3], 2, -2, 2);
  const value = (length: number): Array64 => uniform64([2, length, 2, 5], 3);
  const mask = { shape: [2, 6], data: Float64Array.of(1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 0) };
  const parity = (inputs: Record<string, Array64>, settings: LinearAttentionSettings, visible: (row: number, i: number) => number) =>
    checkKernelParity(backend, {
      inputs,
      differentiate: ['query', 'key', 'value'],
      run: ({ mask: given, visible: counts, ...tensors }) => {
        const extra = { ...(given ? { mask: given } : {}), ...(counts ? { visible: counts } : {}) };
        const { output, state } = linearAttention(tensors as unknown as LinearAttentionTensors, { ...settings, ...extra });
        return { output, memory: state.memory };
      },
      oracle: (arrays) =>
        naiveLinearAttention(arrays as unknown as NaiveInputs, {
          featureMap: { name: 'elu1' },
          normalise: true,
          epsilon: 1e-6,
          scale: 1,
          visible,
        }) as unknown as Record<string, Array64>,
    });

  it('noncausal-cross with a mask sees every token of the context', async () => {
    await parity({ query, key: key(6), value: value(6), mask }, { pattern: 'noncausal-cross' }, () => 6);
  });

  it.each(['parallel', 'chunk', 'recurrent'] as const)('causal-cross in the %s form shows query i the keys 0 to i', async (form) => {
    for (const keys of [6, 9, 13]) {
      await parity({ query, key: key(keys), value: value(keys) }, { pattern: 'causal-cross', form, chunkSize: 4 }, (_, i) => i + 1);
    }
  });

  it('causal-cross with a number of visible keys per query', async () => {
    const visible = { shape: [2, 9], data: Float64Array.of(1, 1, 2, 2, 3, 4, 5, 6, 6, 2, 3, 3, 3, 4, 4, 5, 5, 5) };
    await parity({ query, key: key(6), value: value(6), visible }, { pattern: 'causal-cross' }, (row, i) => visible.data[row * 9 + i]!);
  });

  it.each(['parallel', 'chunk', 'recurrent'] as const)('padding in the middle changes nothing, %s', async (form) => {
    await parity({ query: uniform64([2, 6, 4, 3], 5), key: key(6), value: value(6), mask }, { form }, (_, i) => i + 1);
  });

  it.each([
    { pattern: 'causal-self', form: 'chunk' },
    { pattern: 'causal-self', form: 'recurrent' },
    { pattern: 'noncausal-self', form: 'parallel' },
  ] as const)('the efficient map, $pattern, $form, equals a softmax over the sequence', async ({ pattern, form }) => {
    for (const masked of [false, true]) {
      const inputs = {
        query: uniform64([2, 6, 2, 3], 5),
        key: uniform64([2, 6, 2, 3], 6, -8, 8),
        value: value(6),
        ...(masked ? { mask } : {}),
      };
      await checkKernelParity(backend, {
        inputs,
        differentiate: ['query', 'key', 'value'],
        run: ({ mask: given, ...tensors }) => {
          const settings = { featureMap: { name: 'efficient' }, pattern, form, ...(given ? { mask: given } : {}) } as const;
          const { output, state } = linearAttention(tensors as unknown as LinearAttentionTensors, settings);
          tf.dispose({ ...state });
          return { output };
        },
        oracle: (arrays) => naiveEfficient(arrays, pattern === 'causal-self'),
      });
    }
  });

  it('the efficient map with keys of 200 and -200 and a carried state stays finite and right', async () => {
    const inputs = { query: uniform64([1, 40, 2, 3], 5), key: uniform64([1, 40, 2, 3], 6, -200, 200), value: uniform64([1, 40, 2, 5], 7) };
    const whole = naiveEfficient(inputs, true);
    const tensors = Object.fromEntries(Object.entries(inputs).map(([name, array]) => [name, opTensor(array)]));
    const outputs: tf.Tensor[] = [];
    let state: { memory: tf.Tensor } | undefined;
    for (const [start, size] of [
      [0, 13],
      [13, 1],
      [14, 26],
    ] as const) {
      const piece = Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tf.slice(tensor, [0, start], [1, size])]));
      const result = linearAttention(piece as unknown as LinearAttentionTensors, {
        featureMap: { name: 'efficient' },
        ...(state ? { state } : {}),
      });
      tf.dispose([piece, { ...state }]);
      outputs.push(result.output);
      state = result.state;
    }
    const joined = tf.concat(outputs, 1);
    // logits of 200 have a spacing of 1.5e-5 in float32, and so has their difference
    await expectCloseTo(joined, whole.output, 1e-4, 'output');
    tf.dispose([tensors, outputs, joined, { ...state }]);
  });

  it('the state of a layer does not grow with the sequence', () => {
    const layer = new LinearAttention({ dim: 8, heads: 2 });
    expect(layer.stateBytes(3, 1)).toBe(layer.stateBytes(3, 100_000));
    layer.dispose();
  });
});
