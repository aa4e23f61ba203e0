import * as tf from '@tensorflow/tfjs-core';
import { disposeState, SeqLoomError, setupBackend } from '@seqloom/core';
import { checkKernelGolden, checkKernelParity, readGoldenArrays, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import { beforeEach, describe, expect, it } from 'vitest';
import { emptyKvCache } from '../kv-cache/kv-cache.ts';
import { cachedAttention } from './decode.ts';
import { MultiHeadAttention } from './layer.ts';
import { naiveMultiHeadAttention } from './naive.ts';
import type { NaiveAttentionInputs } from './naive.ts';
import { multiHeadAttention } from './parallel.ts';
import type { AttentionInputs } from './parallel.ts';

describe.each(['cpu', 'wasm'] as const)('multi-head attention on %s', (backend) => {
  beforeEach(async () => {
    await setupBackend(backend);
  });

  it.each(['tiny', 'medium_gqa', 'noncausal', 'hard'])('equals the golden case %s', async (name) => {
    const golden = await readGoldenArrays(new URL(`../../golden/mha-mqa-gqa/softmax-attn/${name}.safetensors`, import.meta.url));
    const names = { query: 'q', key: 'k', value: 'v', sinkLogits: 'sink_bias' };
    const take = (kind: string): Record<string, Array64> =>
      Object.fromEntries(
        Object.entries(names).flatMap(([mine, theirs]) => (golden[`${kind}.${theirs}`] ? [[mine, golden[`${kind}.${theirs}`]!]] : [])),
      );
    await checkKernelGolden(backend, {
      inputs: take('in'),
      run: (inputs) =>
        tf.tidy(() => ({ output: multiHeadAttention(inputs as unknown as AttentionInputs, { causal: name !== 'noncausal' }).output })),
      outputs: { output: golden['out.o']! },
      cotangents: { output: golden['cot.o']! },
      gradients: take('grad'),
    });
  });

  it.each([1, 7, 63, 65, 100])('parallel and decode equal the naive form at T = %i', async (T) => {
    const [B, H, G, D] = T > 10 ? [1, 2, 1, 2] : [2, 4, 2, 3];
    const inputs = {
      query: uniform64([B, T, H, D], 1, -2, 2),
      key: uniform64([B, T, G, D], 2, -2, 2),
      value: uniform64([B, T, G, 3], 3),
      sinkLogits: uniform64([H], 4),
    };
    const options = { scale: 0.9, softCap: 2 };
    await checkKernelParity(backend, {
      inputs,
      run: (given) =>
        tf.tidy(() => ({ output: multiHeadAttention(given as unknown as AttentionInputs, { ...options, causal: true }).output })),
      oracle: (given) => naiveMultiHeadAttention(given as unknown as NaiveAttentionInputs, { ...options, causal: true }) as never,
      differentiate: T > 10 ? [] : ['query', 'key', 'value', 'sinkLogits'],
    });
    await checkKernelParity(backend, {
      inputs,
      // the first half at once, then one token after the other
      run: (given) =>
        tf.tidy(() => {
          let cache = emptyKvCache({ batch: B, heads: G, headDim: D, valueDim: 3 });
          const outputs: tf.Tensor[] = [];
          for (let from = 0; from < T;) {
            const length = from === 0 ? Math.ceil(T / 2) : 1;
            const piece = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, from, 0, 0], [-1, length, -1, -1]);
            const tokens = { query: piece(given.query!), key: piece(given.key!), value: piece(given.value!) };
            const result = cachedAttention({ ...tokens, sinkLogits: given.sinkLogits! }, cache, options);
            outputs.push(result.output);
            cache = result.cache;
            from += length;
          }
          return { output: tf.concat(outputs, 1) };
        }),
      oracle: (given) => naiveMultiHeadAttention(given as unknown as NaiveAttentionInputs, { ...options, causal: true }) as never,
      differentiate: T > 10 ? [] : ['query', 'key', 'value', 'sinkLogits'],
    });
  });

  it('GQA with key and value weights copied over a group equals MHA', async () => {
    const grouped = new MultiHeadAttention({ dim: 8, heads: 4, kvHeads: 2, seed: 1 });
    const full = new MultiHeadAttention({ dim: 8, heads: 4, seed: 1 });
    const weights = { ...(await grouped.stateDict()) };
    for (const name of ['key.weight', 'value.weight']) {
      // [8, 2 heads of 2] to [8, 4 heads of 2]
      const { data } = weights[name]!;
      const copied = Float32Array.from({ length: 64 }, (_, i) => data[Math.floor(i / 8) * 4 + Math.floor((i % 8) / 4) * 2 + (i % 2)]!);
      weights[name] = { shape: [8, 8], data: copied };
    }
    full.loadStateDict(weights);
    const x = tf.randomNormal([2, 6, 8], 0, 1, 'float32', 4);
    const [a, b] = [grouped.forward(x), full.forward(x)];
    const [mine, theirs] = [await a.output.data(), await b.output.data()];
    mine.forEach((value, i) => expect(value).toBeCloseTo(theirs[i]!, 5));
    for (const result of [a, b]) {
      result.output.dispose();
      disposeState(result.state);
    }
    x.dispose();
    grouped.dispose();
    full.dispose();
  });

  it('permuting keys and values together changes nothing without a mask', async () => {
    await checkKernelParity(backend, {
      inputs: { query: uniform64([1, 3, 2, 2], 1), key: uniform64([1, 5, 2, 2], 2), value: uniform64([1, 5, 2, 2], 3) },
      run: ({ query, key, value }) =>
        tf.tidy(() => ({ output: multiHeadAttention({ query: query!, key: tf.reverse(key!, 1), value: tf.reverse(value!, 1) }).output })),
      oracle: (given) => naiveMultiHeadAttention(given as unknown as NaiveAttentionInputs) as never,
    });
  });

  it('refuses a context of another width', () => {
    const layer = new MultiHeadAttention({ dim: 4, heads: 2, pattern: 'noncausal-cross', contextDim: 6 });
    const [x, context] = [tf.zeros([1, 2, 4]), tf.zeros([1, 3, 5])];
    expect(() => layer.forward(x, { context })).toThrow(SeqLoomError);
    tf.dispose([x, context]);
    layer.dispose();
  });
});
