import * as tf from '@tensorflow/tfjs-core';
import { linearAttentionKernel, linearAttentionUpdate, registerGradients } from '@seqloom/core';
import type { LinearAttentionInputs, LinearAttentionOptions, LinearAttentionRule } from '@seqloom/core';
import { checkKernelParity, naiveLinearAttention, uniform64 } from '@seqloom/testing';
import type { LinearAttentionInputs64 } from '@seqloom/testing';
import { expect, it } from 'vitest';
import { describeBuilds } from './describe-builds.ts';

type DecayKind = 'none' | 'head' | 'channel';

interface Shape {
  readonly batch?: number;
  readonly length: number;
  readonly heads?: number;
  readonly group?: number;
  readonly keyDim?: number;
  readonly valueDim?: number;
}

const RULES: [LinearAttentionRule, DecayKind][] = [
  ['linear', 'none'],
  ['gated', 'head'],
  ['gated', 'channel'],
  ['delta', 'none'],
  ['gated_delta', 'head'],
  ['gated_delta', 'channel'],
];

function makeInputs(
  seed: number,
  [rule, decay]: [LinearAttentionRule, DecayKind],
  shape: Shape,
  range: [number, number] = [-1, 0],
): LinearAttentionInputs64 {
  const { batch = 1, length, heads = 2, group = 1, keyDim = 4, valueDim = 3 } = shape;
  const delta = rule === 'delta' || rule === 'gated_delta';
  const key = uniform64([batch, length, heads, keyDim], seed + 1);
  for (let row = 0; delta && row < key.data.length; row += keyDim) {
    // keys of unit length, as every delta layer feeds them
    const norm = Math.hypot(...key.data.subarray(row, row + keyDim));
    for (let d = 0; d < keyDim; d++) key.data[row + d] = Math.fround(key.data[row + d]! / norm);
  }
  return {
    query: uniform64([batch, length, heads * group, keyDim], seed),
    key,
    value: uniform64([batch, length, heads, valueDim], seed + 2),
    ...(decay !== 'none' && { logDecay: uniform64([batch, length, heads, ...(decay === 'channel' ? [keyDim] : [])], seed + 3, ...range) }),
    ...(delta && { beta: uniform64([batch, length, heads], seed + 4, 0, 1) }),
    state: uniform64([batch, heads, keyDim, valueDim], seed + 5),
  };
}

const parity = (inputs: LinearAttentionInputs64, options: LinearAttentionOptions, gradients = true): Promise<void> =>
  checkKernelParity('wasm', {
    inputs,
    run: (tensors) => linearAttentionUpdate(tensors as LinearAttentionInputs, options),
    oracle: (arrays) => naiveLinearAttention(arrays as LinearAttentionInputs64, options),
    ...(gradients && { differentiate: ['query', 'key', 'value', 'logDecay', 'beta', 'state'], step: 1e-6 }),
  });

describeBuilds('LinearAttention', 'LinearAttention', () => {
  it.each(RULES)('%s, decay per %s: equals float64 at odd lengths', async (rule, decay) => {
    for (const length of [1, 2, 7, 23, 24, 25, 63, 65, 97, 100, 200]) {
      await parity(makeInputs(10 * length, [rule, decay], { length }), { updateRule: rule }, length < 64 || length === 100);
    }
  });

  it.each(RULES)('%s, decay per %s: equals float64 at odd and even widths', async (rule, decay) => {
    for (const [keyDim, valueDim] of [
      [1, 1],
      [5, 9],
      [8, 8],
      [13, 17],
      [16, 31],
      [64, 64],
    ] as const) {
      await parity(makeInputs(keyDim, [rule, decay], { length: 50, keyDim, valueDim, heads: 1 }), { updateRule: rule }, keyDim < 14);
    }
  });

  it.each(RULES)('%s, decay per %s: grouped query heads, batch of two, own scale, no state', async (rule, decay) => {
    const { state: _, ...inputs } = makeInputs(77, [rule, decay], { batch: 2, length: 31, group: 3 });
    await parity(inputs, { updateRule: rule, scale: 0.3 });
  });

  it.each(RULES)('%s, decay per %s: long', async (rule, decay) => {
    const inputs = makeInputs(3, [rule, decay], { length: 3000, keyDim: 16, valueDim: 8, heads: 1 }, [-0.05, 0]);
    await parity(inputs, { updateRule: rule }, false);
  });

  it.each(RULES)('%s, decay per %s: a few tokens at a time, one by one, equal float64', async (rule, decay) => {
    for (const length of [1, 2, 3, 4, 5]) {
      for (const [keyDim, valueDim, lowest] of [
        [5, 8, -1],
        [16, 16, -100],
        [13, 24, -8],
        [64, 64, -0.1],
      ] as const) {
        const inputs = makeInputs(length, [rule, decay], { batch: 2, length, heads: 3, group: 2, keyDim, valueDim }, [lowest, 0]);
        await parity(inputs, { updateRule: rule, scale: 0.3 }, false);
        const { state: _, ...fromZero } = inputs;
        await parity(fromZero, { updateRule: rule }, length === 2 && keyDim === 5);
      }
    }
  });

  it.each(RULES)('%s, decay per %s: more heads than take turns at a time give what each gives alone', (rule, decay) => {
    const arrays = makeInputs(12, [rule, decay], { length: 100, heads: 3, keyDim: 160, valueDim: 320 }, [-0.1, 0]);
    const attributes = { updateRule: rule, scale: 0.5, chunkSize: 64 };
    tf.tidy(() => {
      const tensors: Record<string, tf.Tensor> = {};
      for (const [name, { data, shape }] of Object.entries(arrays))
        tensors[name] = tf.tensor(Float32Array.from(data), [...shape], 'float32');
      const upstream = {
        output: tf.randomNormal([1, 100, 3, 320], 0, 1, 'float32', 1),
        state: tf.randomNormal([1, 3, 160, 320], 0, 1, 'float32', 2),
      };
      const gradients = (of: Record<string, tf.Tensor>, from: Record<string, tf.Tensor>): Record<string, tf.Tensor | undefined> => ({
        ...linearAttentionKernel.runGradient(of as unknown as LinearAttentionInputs, from as typeof upstream, attributes),
        output: linearAttentionKernel.run(of as unknown as LinearAttentionInputs, attributes).output,
      });
      const headOf = (all: Record<string, tf.Tensor>, head: number): Record<string, tf.Tensor> =>
        Object.fromEntries(Object.entries(all).map(([name, x]) => [name, tf.gather(x, [head], name === 'state' ? 1 : 2)]));
      const together = gradients(tensors, upstream);
      for (let head = 0; head < 3; head++) {
        const alone = gradients(headOf(tensors, head), headOf(upstream, head));
        const expected = headOf(together as Record<string, tf.Tensor>, head);
        for (const name of [...Object.keys(tensors), 'output']) {
          expect(tf.max(tf.abs(alone[name]!)).dataSync()[0], name).toBeGreaterThan(0);
          expect(tf.max(tf.abs(tf.sub(alone[name]!, expected[name]!))).dataSync()[0], `${name} of head ${head}`).toBe(0);
        }
      }
    });
  });

  it.each([
    ['every decay -100', [-100, -100]],
    ['every decay 0', [0, 0]],
    ['decays between -100 and 0', [-100, 0]],
    ['decays between -8 and 0', [-8, 0]],
    ['decays between -2.5 and -1', [-2.5, -1]],
  ] as [string, [number, number]][])('hard gates: %s', async (_, range) => {
    for (const rule of RULES.filter(([, kind]) => kind !== 'none')) {
      await parity(makeInputs(5, rule, { length: 70 }, range), { updateRule: rule[0] });
    }
  });

  it.each(['head', 'channel'] as const)('hard gates: decays of 0, -1e-6 and -100 in turn, per %s', async (kind) => {
    for (const rule of ['gated', 'gated_delta'] as const) {
      const inputs = makeInputs(6, [rule, kind], { length: 66 });
      inputs.logDecay!.data.forEach((_, index) => (inputs.logDecay!.data[index] = [0, Math.fround(-1e-6), 0, 0, -100, 0, 0][index % 7]!));
      await parity(inputs, { updateRule: rule });
    }
  });

  it.each(['head', 'channel'] as const)('a decay of -Infinity per %s forgets all and stays finite', async (kind) => {
    const inputs = makeInputs(8, ['gated', kind], { length: 9 });
    inputs.logDecay!.data.fill(-Infinity, inputs.logDecay!.data.length / 2);
    await checkKernelParity('wasm', {
      inputs,
      run: (tensors) => linearAttentionUpdate(tensors as LinearAttentionInputs, { updateRule: 'gated' }),
      oracle: (arrays) => naiveLinearAttention(arrays as LinearAttentionInputs64, { updateRule: 'gated' }),
      differentiate: ['query', 'key', 'value', 'state'],
    });
  });

  it.each(RULES)('%s, decay per %s: the gradient is the same with what the forward kept and without', async (rule, decay) => {
    registerGradients();
    for (const [length, lowest] of [
      [1, -1],
      [53, -0.1],
      [70, -40],
      [290, -0.1],
      [200, -40],
    ] as const) {
      const arrays = makeInputs(length, [rule, decay], { batch: 2, length, group: 2, keyDim: 5, valueDim: 11 }, [lowest, 0]);
      const tensors = Object.fromEntries(
        Object.entries(arrays).map(([name, { data, shape }]) => [name, tf.tensor(Float32Array.from(data), [...shape], 'float32')]),
      );
      const names = Object.keys(tensors);
      const inputs = tensors as unknown as LinearAttentionInputs;
      const attributes = { updateRule: rule, scale: 0.5, chunkSize: 64 };
      const upstream = {
        output: tf.randomNormal([2, length, 4, 11], 0, 1, 'float32', 1),
        state: tf.randomNormal([2, 2, 5, 11], 0, 1, 'float32', 2),
      };
      const taped = tf.grads((...given: tf.Tensor[]) => {
        const { output, state } = linearAttentionKernel.run(
          Object.fromEntries(names.map((name, place) => [name, given[place]!])) as unknown as LinearAttentionInputs,
          attributes,
        );
        return tf.add(tf.sum(tf.mul(output, upstream.output)), tf.sum(tf.mul(state, upstream.state)));
      })(Object.values(tensors));
      const alone = linearAttentionKernel.runGradient(inputs, upstream, attributes);
      for (const [place, name] of names.entries()) {
        const [one, other] = [await taped[place]!.data(), await alone[name as keyof LinearAttentionInputs]!.data()];
        const largest = Math.max(...other.map(Math.abs));
        expect(largest, name).toBeGreaterThan(0);
        one.forEach((value, at) => expect(Math.abs(value - other[at]!), `${name}[${at}]`).toBeLessThanOrEqual(2e-6 * largest));
      }
      tf.dispose([tensors, upstream, taped, Object.values(alone)]);
    }
  });

  it('a delta rule with beta 2, and with beta 0, on one key again and again stays right', async () => {
    for (const beta of [0, 2]) {
      const inputs = makeInputs(9, ['delta', 'none'], { length: 100 });
      inputs.beta!.data.fill(beta);
      inputs.key.data.forEach((_, index) => (inputs.key.data[index] = inputs.key.data[index % 8]!));
      await parity(inputs, { updateRule: 'delta' });
    }
  });
});
