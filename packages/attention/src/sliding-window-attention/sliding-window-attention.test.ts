import * as tf from '@tensorflow/tfjs-core';
import { disposeState, zeroState, setupBackend } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { checkKernelGolden, checkKernelParity, readGoldenArrays, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import { beforeEach, describe, expect, it } from 'vitest';
import { MultiHeadAttention } from '../mha-mqa-gqa/layer.ts';
import type { AttentionInputs } from '../mha-mqa-gqa/parallel.ts';
import { naiveFrequencies } from '../positional-encodings/naive.ts';
import { rotaryEmbedding } from '../positional-encodings/parallel.ts';
import { slidingWindowAttention } from './chunk.ts';
import { rollingAttention, rollingCacheShapes } from './decode.ts';
import { SlidingWindowAttention } from './layer.ts';
import { naiveSlidingWindowAttention } from './naive.ts';
import type { NaiveWindowInputs, NaiveWindowOptions } from './naive.ts';

type Given = Record<string, tf.Tensor>;

/** Rotates and attends piece by piece, with a rolling cache in between. */
function inPieces(given: Given, pieces: readonly number[], options: NaiveWindowOptions): { output: tf.Tensor } {
  const { window, sinks = 0, positions = 'absolute', scale } = options;
  const rotary = { base: 100 };
  return tf.tidy(() => {
    const [batch, , heads, headDim] = given.key!.shape as [number, number, number, number];
    const shapes = rollingCacheShapes(batch, { window, sinks, heads, headDim, valueDim: given.value!.shape[3]! });
    let state: State = zeroState(batch, shapes);
    let from = 0;
    const outputs = pieces.map((length) => {
      const cut = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, from, 0, 0], [-1, length, -1, -1]);
      const [query, key] = [cut(given.query!), cut(given.key!)];
      const rotated = rotaryEmbedding({ query, key, positions: { start: from, length } }, rotary);
      const near = tf.tensor2d([Array.from({ length }, (_, t) => Math.min(from + t, sinks + window - 1))]);
      const sinkQuery =
        positions === 'cache' ? rotaryEmbedding({ query, key, positions: tf.tile(near, [batch, 1]) }, rotary).query : undefined;
      const result = rollingAttention({ ...rotated, value: cut(given.value!), sinkQuery, sinkLogits: given.sinkLogits }, state, {
        window,
        sinks,
        positions,
        scale,
      });
      from += length;
      state = result.state;
      return result.output;
    });
    return { output: tf.concat(outputs, 1) };
  });
}

describe.each(['cpu', 'wasm'] as const)('sliding-window attention on %s', (backend) => {
  beforeEach(async () => {
    await setupBackend(backend);
  });

  it.each(['window', 'sinks'])('equals the golden case %s', async (name) => {
    const golden = await readGoldenArrays(
      new URL(`../../golden/sliding-window-attention/softmax-attn/${name}.safetensors`, import.meta.url),
    );
    const names = { query: 'q', key: 'k', value: 'v', sinkLogits: 'sink_bias' };
    const take = (kind: string): Record<string, Array64> =>
      Object.fromEntries(
        Object.entries(names).flatMap(([mine, theirs]) => (golden[`${kind}.${theirs}`] ? [[mine, golden[`${kind}.${theirs}`]!]] : [])),
      );
    // the case `sinks` has a learned sink logit and no window
    const window = name === 'window' ? 9 : 64;
    await checkKernelGolden(backend, {
      inputs: take('in'),
      run: (inputs) => tf.tidy(() => ({ output: slidingWindowAttention(inputs as unknown as AttentionInputs, { window }).output })),
      outputs: { output: golden['out.o']! },
      cotangents: { output: golden['cot.o']! },
      gradients: take('grad'),
    });
  });

  it.each([1, 7, 63, 65, 100])('chunk and decode equal the naive form at T = %i, in both kinds of positions', async (T) => {
    const [B, H, G, D] = T > 10 ? [1, 2, 1, 2] : [2, 4, 2, 4];
    const inputs = {
      query: uniform64([B, T, H, D], 1, -2, 2),
      key: uniform64([B, T, G, D], 2, -2, 2),
      value: uniform64([B, T, G, 3], 3),
      sinkLogits: uniform64([H], 4),
    };
    const differentiate = T > 10 ? [] : ['query', 'key', 'value', 'sinkLogits'];
    for (const [window, sinks, positions] of [
      [3, 0, 'absolute'],
      [3, 2, 'absolute'],
      [3, 2, 'cache'],
      [1, 1, 'cache'],
      [16, 4, 'cache'],
    ] as const) {
      const options = { window, sinks, positions, frequencies: naiveFrequencies(D, 100) };
      const oracle = (given: Record<string, Array64>): Record<string, Array64> =>
        naiveSlidingWindowAttention(given as unknown as NaiveWindowInputs, options) as unknown as Record<string, Array64>;
      const partitions = [[T], T > 1 ? [Math.ceil(T / 2), ...Array.from({ length: Math.floor(T / 2) }, () => 1)] : [1]];
      for (const pieces of partitions)
        await checkKernelParity(backend, { inputs, run: (given) => inPieces(given, pieces, options), oracle, differentiate });
      if (positions === 'absolute') {
        await checkKernelParity(backend, {
          inputs,
          run: (given) =>
            tf.tidy(() => {
              const rotated = rotaryEmbedding({ query: given.query!, key: given.key!, positions: { start: 0, length: T } }, { base: 100 });
              const all = { ...rotated, value: given.value!, sinkLogits: given.sinkLogits! };
              return { output: slidingWindowAttention(all, { window, sinks }).output };
            }),
          oracle,
          differentiate,
        });
      }
    }
  });

  it('a two-sided window equals the naive form', async () => {
    await checkKernelParity(backend, {
      inputs: { query: uniform64([1, 9, 2, 2], 1), key: uniform64([1, 9, 2, 2], 2), value: uniform64([1, 9, 2, 2], 3) },
      run: (given) =>
        tf.tidy(() => ({
          output: slidingWindowAttention(given as unknown as AttentionInputs, { window: 3, sinks: 1, causal: false }).output,
        })),
      oracle: (given) =>
        naiveSlidingWindowAttention(given as unknown as NaiveWindowInputs, { window: 3, sinks: 1, causal: false }) as never,
      differentiate: ['query', 'key', 'value'],
    });
  });

  it('a window of 1 gives every token its own value', async () => {
    const inputs = { query: uniform64([1, 5, 1, 2], 1), key: uniform64([1, 5, 1, 2], 2), value: uniform64([1, 5, 1, 2], 3) };
    await checkKernelParity(backend, {
      inputs,
      run: (given) => tf.tidy(() => ({ output: slidingWindowAttention(given as unknown as AttentionInputs, { window: 1 }).output })),
      oracle: (given) => ({ output: given.value! }),
    });
  });

  it('a window as long as the sequence equals full causal attention, layer against layer', async () => {
    const config = { dim: 8, heads: 4, kvHeads: 2, seed: 5 };
    const [full, windowed] = [new MultiHeadAttention(config), new SlidingWindowAttention({ ...config, window: 9 })];
    const x = tf.randomNormal([2, 9, 8], 0, 1, 'float32', 7);
    const [a, b] = [full.forward(x), windowed.forward(x)];
    const [mine, theirs] = [await b.output.data(), await a.output.data()];
    mine.forEach((value, i) => expect(value).toBeCloseTo(theirs[i]!, 5));
    for (const { output, state } of [a, b]) {
      output.dispose();
      disposeState(state);
    }
    x.dispose();
    full.dispose();
    windowed.dispose();
  });
});
