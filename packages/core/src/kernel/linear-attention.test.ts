import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import {
  array64,
  checkKernelGolden,
  checkKernelParity,
  expectCloseTo,
  naiveLinearAttention,
  readGoldenArrays,
  tensorOf,
  transposed64,
  uniform64,
} from '@seqloom/testing';
import type { Array64, LinearAttentionInputs64 } from '@seqloom/testing';
import { SeqLoomError } from '../error.ts';
import { linearAttentionUpdate } from './linear-attention.ts';
import type { LinearAttentionInputs, LinearAttentionOptions, LinearAttentionRule } from './linear-attention.ts';

const BACKENDS = ['cpu', 'wasm'];
const ALL = ['query', 'key', 'value', 'logDecay', 'beta', 'state'];

interface Shape {
  batch?: number;
  length: number;
  heads?: number;
  group?: number;
  keyDim?: number;
  valueDim?: number;
}

type DecayKind = 'none' | 'head' | 'channel';

function makeInputs(
  seed: number,
  rule: LinearAttentionRule,
  decay: DecayKind,
  shape: Shape,
  decayRange: [number, number] = [-1, 0],
): LinearAttentionInputs64 {
  const { batch = 1, length, heads = 2, group = 1, keyDim = 4, valueDim = 3 } = shape;
  const delta = rule === 'delta' || rule === 'gated_delta';
  const key = uniform64([batch, length, heads, keyDim], seed + 1);
  if (delta) {
    // keys of unit length, as every delta layer feeds them
    for (let row = 0; row < key.data.length; row += keyDim) {
      const norm = Math.hypot(...key.data.subarray(row, row + keyDim));
      for (let d = 0; d < keyDim; d++) key.data[row + d] = Math.fround(key.data[row + d]! / norm);
    }
  }
  return {
    query: uniform64([batch, length, heads * group, keyDim], seed),
    key,
    value: uniform64([batch, length, heads, valueDim], seed + 2),
    ...(decay === 'none'
      ? {}
      : { logDecay: uniform64([batch, length, heads, ...(decay === 'channel' ? [keyDim] : [])], seed + 3, ...decayRange) }),
    ...(delta ? { beta: uniform64([batch, length, heads], seed + 4, 0, 1) } : {}),
    state: uniform64([batch, heads, keyDim, valueDim], seed + 5),
  };
}

function parityOf(inputs: LinearAttentionInputs64, options: LinearAttentionOptions): Parameters<typeof checkKernelParity>[1] {
  return {
    inputs,
    run: (tensors) => linearAttentionUpdate(tensors as LinearAttentionInputs, options),
    oracle: (arrays) => naiveLinearAttention(arrays as LinearAttentionInputs64, options),
    differentiate: ALL,
  };
}

const RULES: [LinearAttentionRule, DecayKind][] = [
  ['linear', 'none'],
  ['gated', 'head'],
  ['gated', 'channel'],
  ['delta', 'none'],
  ['gated_delta', 'head'],
  ['gated_delta', 'channel'],
];

describe.each(BACKENDS)('LinearAttention equals its float64 specification on %s', (backend) => {
  it.each(RULES.flatMap(([rule, decay]) => [1, 7, 63, 65, 100].map((length) => ({ rule, decay, length }))))(
    '$rule, decay per $decay, T = $length: outputs, state, gradients',
    async ({ rule, decay, length }) => {
      await checkKernelParity(backend, parityOf(makeInputs(10 * length, rule, decay, { length }), { updateRule: rule }));
    },
  );

  it.each(RULES)('%s, decay per %s: grouped query heads, batch of two, small chunks, own scale, no state', async (rule, decay) => {
    const { state: _, ...inputs } = makeInputs(77, rule, decay, { batch: 2, length: 21, heads: 2, group: 3 });
    await checkKernelParity(backend, parityOf(inputs, { updateRule: rule, chunkSize: 5, scale: 0.3 }));
  });

  it.each([
    { name: 'every decay -100', range: [-100, -100] as [number, number] },
    { name: 'every decay 0', range: [0, 0] as [number, number] },
    { name: 'decays between -100 and 0', range: [-100, 0] as [number, number] },
  ])('hard gates: $name', async ({ range }) => {
    for (const [rule, decay] of RULES.filter(([, kind]) => kind !== 'none')) {
      const inputs = makeInputs(5, rule, decay, { length: 70 }, range);
      await checkKernelParity(backend, { ...parityOf(inputs, { updateRule: rule }), step: 1e-6 });
    }
  });

  it.each(['head', 'channel'] as const)('hard gates: decays of 0, -1e-6 and -100 in turn, per %s', async (kind) => {
    for (const rule of ['gated', 'gated_delta'] as const) {
      const inputs = makeInputs(6, rule, kind, { length: 66 });
      inputs.logDecay!.data.forEach((_, index) => (inputs.logDecay!.data[index] = [0, Math.fround(-1e-6), 0, 0, -100, 0, 0][index % 7]!));
      await checkKernelParity(backend, { ...parityOf(inputs, { updateRule: rule }), step: 1e-6 });
    }
  });

  it.each(['head', 'channel'] as const)('a decay of -Infinity per %s forgets all and stays finite', async (kind) => {
    const inputs = makeInputs(8, 'gated', kind, { length: 9 });
    inputs.logDecay!.data.fill(-Infinity, inputs.logDecay!.data.length / 2);
    await checkKernelParity(backend, { ...parityOf(inputs, { updateRule: 'gated' }), differentiate: ['query', 'key', 'value', 'state'] });
  });

  it('a delta rule with beta 2 and one key again and again swings without growing', async () => {
    const inputs = makeInputs(9, 'delta', 'none', { length: 100 });
    inputs.beta!.data.fill(2);
    inputs.key.data.forEach((_, index) => (inputs.key.data[index] = inputs.key.data[index % 8]!));
    await checkKernelParity(backend, parityOf(inputs, { updateRule: 'delta' }));
  });

  it.each(RULES)('%s, decay per %s: fed in pieces it gives the same outputs and state', async (rule, decay) => {
    await tf.setBackend(backend);
    const arrays = makeInputs(31, rule, decay, { length: 71 });
    const whole = naiveLinearAttention(arrays, { updateRule: rule });
    const before = tf.memory().numTensors;
    const { state: first, ...perToken } = Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, tensorOf(array)]));
    let state = first!;
    const outputs: tf.Tensor[] = [];
    let start = 0;
    for (const size of [1, 5, 1, 40, 3, 21]) {
      const piece = Object.fromEntries(Object.entries(perToken).map(([name, tensor]) => [name, slicedTokens(tensor, start, size)]));
      const result = linearAttentionUpdate({ ...piece, state } as unknown as LinearAttentionInputs, { updateRule: rule });
      outputs.push(result.output);
      tf.dispose([state, ...Object.values(piece)]);
      state = result.state;
      start += size;
    }
    const output = tf.concat(outputs, 1);
    await expectCloseTo(output, whole.output, 1e-5, 'output');
    await expectCloseTo(state, whole.state, 1e-5, 'state');
    tf.dispose([output, state, ...outputs, ...Object.values(perToken)]);
    expect(tf.memory().numTensors).toBe(before);
  });
});

function slicedTokens(tensor: tf.Tensor, start: number, size: number): tf.Tensor {
  return tf.slice(tensor, [0, start], [tensor.shape[0]!, size]);
}

// folder, update rule, golden name of the decay, whether the vectors are [B, H, T, D]
const GOLDEN: [string, LinearAttentionRule, string | undefined, boolean][] = [
  ['linear-attn', 'linear', undefined, false],
  ['simple-gla', 'gated', 'g', false],
  ['gla', 'gated', 'gk', false],
  ['delta-rule', 'delta', undefined, true],
  ['gated-delta-rule', 'gated_delta', 'g', false],
  ['kda', 'gated_delta', 'g', false],
];

const tokensFirst = (array: Array64): Array64 => transposed64(array, array.shape.length === 4 ? [0, 2, 1, 3] : [0, 2, 1]);

describe.each(BACKENDS)('LinearAttention equals the original implementations on %s', (backend) => {
  it.each(
    GOLDEN.flatMap(([folder, rule, decay, headFirst]) =>
      ['tiny', 'medium', 'state', 'hard'].map((name) => ({ folder, name, rule, decay, headFirst })),
    ),
  )('$folder/$name', async ({ folder, name, rule, decay, headFirst }) => {
    const golden = await readGoldenArrays(new URL(`../../golden/${folder}/${name}.safetensors`, import.meta.url));
    const names: Record<string, string | undefined> = {
      query: 'q',
      key: 'k',
      value: 'v',
      logDecay: decay,
      beta: 'beta',
      state: 'initial_state',
    };
    const pick = (prefix: string): Record<string, Array64> =>
      Object.fromEntries(
        Object.entries(names)
          .filter(([, original]) => original && golden[`${prefix}.${original}`])
          .map(([mine, original]) => {
            const array = golden[`${prefix}.${original}`]!;
            return [mine, headFirst && mine !== 'state' ? tokensFirst(array) : array];
          }),
      );
    const inputs = pick('in');
    const repeats = inputs['value']!.shape[2]! / inputs['key']!.shape[2]!;
    const outputs = (prefix: string): Record<string, Array64> => ({
      output: headFirst ? tokensFirst(golden[`${prefix}.o`]!) : golden[`${prefix}.o`]!,
      state: golden[`${prefix}.final_state`]!,
    });
    await checkKernelGolden(backend, {
      inputs,
      outputs: outputs('out'),
      cotangents: outputs('cot'),
      gradients: pick('grad'),
      run: (tensors) => {
        // one key head may serve several value heads: repeat it, and its gradients add up
        const repeated = (tensor: tf.Tensor): tf.Tensor => (repeats === 1 ? tensor : repeatHeads(tensor, repeats));
        return tf.tidy(() => {
          const heads = { query: repeated(tensors['query']!), key: repeated(tensors['key']!) };
          return linearAttentionUpdate({ ...tensors, ...heads } as unknown as LinearAttentionInputs, { updateRule: rule });
        });
      },
    });
  });
});

// [B, T, H, D] -> [B, T, H * times, D], each head `times` times in a row, differentiable without tfjs's own gradients
function repeatHeads(tensor: tf.Tensor, times: number): tf.Tensor {
  return tf.customGrad((given) => {
    const [batch, length, heads, width] = (given as tf.Tensor).shape as [number, number, number, number];
    const wide = tf.tile(tf.reshape(given as tf.Tensor, [batch, length, heads, 1, width]), [1, 1, 1, times, 1]);
    return {
      value: tf.reshape(wide, [batch, length, heads * times, width]),
      gradFunc: (upstream: tf.Tensor) => tf.sum(tf.reshape(upstream, [batch, length, heads, times, width]), 3),
    };
  })(tensor);
}

describe('LinearAttention at the door', () => {
  const make = (rule: LinearAttentionRule, decay: DecayKind): Record<string, tf.Tensor> =>
    Object.fromEntries(
      Object.entries(makeInputs(1, rule, decay, { length: 3 })).map(([name, array]) => [name, tensorOf(array as Array64)]),
    );
  const zero = (...shape: number[]): Array64 => array64(shape);

  it.each<[string, LinearAttentionRule, Record<string, Array64 | undefined>, object, string]>([
    ['no tokens', 'linear', { query: zero(1, 0, 2, 4), key: zero(1, 0, 2, 4), value: zero(1, 0, 2, 3) }, {}, 'query'],
    ['a key of another length', 'linear', { key: zero(1, 4, 2, 4) }, {}, 'key'],
    ['a value of rank 3', 'linear', { value: zero(1, 3, 2) }, {}, 'value'],
    ['query heads that do not divide', 'linear', { query: zero(1, 3, 3, 4) }, {}, 'query'],
    ['a state of another width', 'linear', { state: zero(1, 2, 4, 4) }, {}, 'state'],
    ['a decay for the linear rule', 'linear', { logDecay: zero(1, 3, 2) }, {}, 'logDecay'],
    ['no decay for the gated rule', 'gated', {}, {}, 'logDecay'],
    ['no beta for the delta rule', 'delta', { beta: undefined }, {}, 'beta'],
    ['a decay of a wrong width', 'gated', { logDecay: zero(1, 3, 2, 3) }, {}, 'logDecay'],
    ['an unknown rule', 'linear', {}, { updateRule: 'other' }, 'updateRule'],
    ['half a chunk', 'linear', {}, { chunkSize: 0.5 }, 'chunkSize'],
    ['an infinite scale', 'linear', {}, { scale: Infinity }, 'scale'],
  ])('%s is refused before any work', async (_, rule, change, options, argument) => {
    await tf.setBackend('cpu');
    const inputs: Record<string, tf.Tensor | undefined> = make(rule, 'none');
    for (const [name, array] of Object.entries(change)) {
      inputs[name]?.dispose();
      inputs[name] = array && tensorOf(array);
    }
    const before = tf.memory().numTensors;
    let error: unknown;
    try {
      linearAttentionUpdate(inputs as unknown as LinearAttentionInputs, { updateRule: rule, ...options });
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(SeqLoomError);
    expect((error as SeqLoomError).argument).toBe(argument);
    expect(tf.memory().numTensors).toBe(before);
    tf.dispose(Object.values(inputs).filter((tensor) => tensor !== undefined));
  });

  it('an int32 key is refused', async () => {
    await tf.setBackend('cpu');
    const inputs = make('linear', 'none');
    inputs['key'] = tf.cast(inputs['key']!, 'int32');
    expect(() => linearAttentionUpdate(inputs as unknown as LinearAttentionInputs, { updateRule: 'linear' })).toThrow(
      /key must be a float32 tensor/,
    );
  });
});
