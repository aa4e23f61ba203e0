import { linearAttentionUpdate, setupBackend } from '@seqloom/core';
import type { LinearAttentionInputs, LinearAttentionRule } from '@seqloom/core';
import { checkKernelParity, naiveLinearAttention, tensorOf, uniform64 } from '@seqloom/testing';
import type { Array64, KernelParityCase, LinearAttentionInputs64 } from '@seqloom/testing';
import type { Tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { implementLinearAttention, linearAttentionForm } from './linear-attention.ts';

interface Shape {
  readonly batch?: number;
  readonly length: number;
  readonly heads?: number;
  readonly share?: number;
  readonly keyDim?: number;
  readonly valueDim?: number;
  readonly state?: boolean;
}

type Decay = 'none' | 'head' | 'channel';

const RULES: [LinearAttentionRule, Decay][] = [
  ['linear', 'none'],
  ['gated', 'head'],
  ['gated', 'channel'],
  ['delta', 'none'],
  ['gated_delta', 'head'],
  ['gated_delta', 'channel'],
];

function call(updateRule: LinearAttentionRule, decay: Decay, shape: Shape, range: [number, number] = [-1, 0]): KernelParityCase {
  const { batch = 1, length, heads = 2, share = 1, keyDim = 6, valueDim = 5, state = true } = shape;
  const perHead = [batch, length, heads];
  const inputs: Record<string, Array64> = {
    query: uniform64([batch, length, heads * share, keyDim], 1),
    // short keys, so that the delta rules stay stable
    key: uniform64([...perHead, keyDim], 2, -1 / Math.sqrt(keyDim), 1 / Math.sqrt(keyDim)),
    value: uniform64([...perHead, valueDim], 3),
    ...(decay === 'none' ? {} : { logDecay: uniform64([...perHead, ...(decay === 'channel' ? [keyDim] : [])], 4, ...range) }),
    ...(updateRule.endsWith('delta') ? { beta: uniform64(perHead, 5, 0, 1) } : {}),
    ...(state ? { state: uniform64([batch, heads, keyDim, valueDim], 6) } : {}),
  };
  return {
    inputs,
    run: (tensors) => linearAttentionUpdate(tensors as LinearAttentionInputs, { updateRule }),
    oracle: (arrays) => naiveLinearAttention(arrays as LinearAttentionInputs64, { updateRule }),
    differentiate: ['query', 'key', 'value', 'logDecay', 'beta', 'state'],
  };
}

describe('LinearAttention in WGSL', () => {
  beforeAll(async () => {
    await setupBackend('webgpu', { kernels: [() => ({ label: 'wgsl', undo: implementLinearAttention('wgsl') })], strict: true });
  });

  it.each(RULES.flatMap(([rule, decay]) => [1, 7, 65].map((length) => ({ rule, decay, length }))))(
    '$rule, decay per $decay, T = $length: outputs, state, gradients',
    ({ rule, decay, length }) => checkKernelParity('webgpu', call(rule, decay, { length })),
  );

  it.each(RULES)('%s, decay per %s: grouped query heads, batch of two, no state', (rule, decay) =>
    checkKernelParity('webgpu', call(rule, decay, { batch: 2, length: 20, share: 3, state: false })),
  );

  it.each<[string, [number, number]]>([
    ['-100', [-100, -100]],
    ['0', [0, 0]],
    ['between -100 and 0', [-100, 0]],
  ])('decays of %s', async (_, range) => {
    for (const [rule, decay] of RULES.filter(([, kind]) => kind !== 'none')) {
      await checkKernelParity('webgpu', { ...call(rule, decay, { length: 70 }, range), step: 1e-6 });
    }
  });

  it('decays of 0, -1e-6 and -100 in turn', async () => {
    for (const decay of ['head', 'channel'] as const) {
      const hard = call('gated_delta', decay, { length: 66 });
      const { data } = hard.inputs['logDecay']!;
      data.forEach((__, index) => (data[index] = [0, Math.fround(-1e-6), 0, 0, -100, 0, 0][index % 7]!));
      await checkKernelParity('webgpu', { ...hard, step: 1e-6 });
    }
  });

  it('a decay of -Infinity forgets all and stays finite', async () => {
    const reset = call('gated', 'channel', { length: 9 });
    const { data } = reset.inputs['logDecay']!;
    data.fill(-Infinity, data.length / 2);
    await checkKernelParity('webgpu', { ...reset, differentiate: ['query', 'key', 'value', 'state'] });
  });

  it('a delta rule with beta 2 and one key again and again swings without growing', async () => {
    const swinging = call('delta', 'none', { length: 100, keyDim: 4 });
    swinging.inputs['beta']!.data.fill(2);
    const { data } = swinging.inputs['key']!;
    data.forEach((__, index) => (data[index] = index % 4 === 0 ? 1 : 0));
    await checkKernelParity('webgpu', swinging);
  });

  it('values wider than the registers of a row', () =>
    checkKernelParity('webgpu', call('gated_delta', 'head', { length: 9, heads: 1, keyDim: 3, valueDim: 70 })));

  it.each<[string, Shape, RegExp]>([
    ['keys wider than a column in registers', { length: 1, keyDim: 257 }, /keys of 257 channels/],
    ['more query heads than are held', { length: 1, share: 17 }, /17 query heads per state head/],
  ])('declines %s, and says so', (_, shape, reason) => {
    const { inputs, run } = call('linear', 'none', shape);
    expect(() => run(Object.fromEntries(Object.entries(inputs).map(([name, array]) => [name, tensorOf(array!)])))).toThrow(reason);
  });

  it('more key channels than a workgroup', () =>
    checkKernelParity('webgpu', call('gated', 'channel', { length: 5, heads: 1, keyDim: 37, valueDim: 3 })));
});

describe('which form a call of LinearAttention takes', () => {
  const inputs = (length: number): LinearAttentionInputs => {
    const tensor = (...shape: number[]) => ({ shape }) as unknown as Tensor;
    return { query: tensor(1, length, 2, 64), key: tensor(1, length, 2, 64), value: tensor(1, length, 2, 32) };
  };

  it('goes by the number of tokens', () => {
    expect([1, 127, 128, 16384].map((length) => linearAttentionForm(inputs(length), Infinity))).toEqual([
      'recurrent',
      'recurrent',
      'chunked',
      'chunked',
    ]);
  });

  it('needs a device that binds the largest tensor made on the way', () => {
    // scores of 64 keys per query
    const scores = 4 * 256 * 2 * 64;
    expect(linearAttentionForm(inputs(256), scores)).toBe('chunked');
    expect(linearAttentionForm(inputs(256), scores - 1)).toBe('recurrent');
  });
});

describe('LinearAttention in WGSL, in chunks', () => {
  beforeAll(async () => {
    const kernels = [() => ({ label: 'wgsl', undo: implementLinearAttention('wgsl', 'chunked') })];
    await setupBackend('webgpu', { kernels, strict: true });
  });

  it.each(RULES.flatMap(([rule, decay]) => [1, 7, 65, 100, 130].map((length) => ({ rule, decay, length }))))(
    '$rule, decay per $decay, T = $length: outputs, state, gradients',
    ({ rule, decay, length }) =>
      checkKernelParity('webgpu', { ...call(rule, decay, { length }), ...(length === 100 && { differentiate: [] }) }),
  );

  it.each(RULES)('%s, decay per %s: grouped query heads, batch of two, no state', (rule, decay) =>
    checkKernelParity('webgpu', call(rule, decay, { batch: 2, length: 66, share: 3, keyDim: 3, valueDim: 2, state: false })),
  );

  it.each(RULES)('%s, decay per %s: widths of whole vectors, several tiles', async (rule, decay) => {
    await checkKernelParity('webgpu', call(rule, decay, { length: 70, heads: 1, keyDim: 8, valueDim: 4 }));
    await checkKernelParity('webgpu', call(rule, decay, { length: 20, heads: 1, keyDim: 68, valueDim: 4, state: false }));
    await checkKernelParity('webgpu', call(rule, decay, { length: 20, heads: 1, keyDim: 3, valueDim: 67 }));
    // more keys than part of a state holds by four vectors
    await checkKernelParity('webgpu', { ...call(rule, decay, { length: 70, heads: 1, keyDim: 133, valueDim: 67 }), differentiate: [] });
  });

  it.each<[string, [number, number]]>([
    ['-100', [-100, -100]],
    ['0', [0, 0]],
    ['between -100 and 0', [-100, 0]],
    ['between -0.01 and 0', [-0.01, 0]],
  ])('decays of %s', async (_, range) => {
    for (const [rule, decay] of RULES.filter(([, kind]) => kind !== 'none')) {
      await checkKernelParity('webgpu', { ...call(rule, decay, { length: 130, heads: 1 }, range), step: 1e-6 });
    }
  });

  it('decays of 0, -1e-6, -100 and -Infinity in turn', async () => {
    for (const [rule, decay] of RULES.filter(([, kind]) => kind !== 'none')) {
      const hard = call(rule, decay, { length: 130, heads: 1 });
      const { data } = hard.inputs['logDecay']!;
      data.forEach((__, index) => (data[index] = [0, Math.fround(-1e-6), 0, 0, -100, 0, 0][index % 7]!));
      await checkKernelParity('webgpu', { ...hard, step: 1e-6 });
      data.forEach((__, index) => (data[index] = index % 31 === 0 ? -Infinity : data[index]!));
      const differentiate = hard.differentiate!.filter((name) => name !== 'logDecay');
      await checkKernelParity('webgpu', { ...hard, differentiate });
    }
  });

  it('a delta rule with beta 2 and one key again and again swings without growing', async () => {
    const swinging = call('delta', 'none', { length: 200, keyDim: 4 });
    swinging.inputs['beta']!.data.fill(2);
    const { data } = swinging.inputs['key']!;
    data.forEach((__, index) => (data[index] = index % 4 === 0 ? 1 : 0));
    await checkKernelParity('webgpu', swinging);
  });
});
