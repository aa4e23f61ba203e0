import { disposeState, setupBackend } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { readGolden, relativeError64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeEach, describe, expect, it } from 'vitest';
import { MultiHeadLatentAttention } from './layer.ts';
import { latentForm, multiHeadLatentAttention } from './multi-head-latent-attention.ts';

const NAMES = {
  wq: 'query',
  wq_a: 'queryDown',
  q_norm: 'queryNorm',
  wq_b: 'queryUp',
  wkv_a: 'keyValueDown',
  kv_norm: 'keyValueNorm',
  wkv_b: 'keyValueUp',
  wo: 'output',
} as const;

function transposed({ shape, data }: { readonly shape: readonly number[]; readonly data: ArrayLike<number> }) {
  const [rows, columns = 0] = shape as [number, number?];
  if (columns === 0) return { shape: [rows], data: Float32Array.from(data) };
  return {
    shape: [columns, rows],
    data: Float32Array.from({ length: rows * columns }, (_, i) => data[(i % rows) * columns + Math.floor(i / rows)]!),
  };
}

describe.each(['cpu', 'wasm'] as const)('multi-head latent attention on %s', (backend) => {
  beforeEach(async () => {
    await setupBackend(backend);
  });

  it.each(['tiny', 'medium', 'yarn'])("gives the original layer's outputs from its weights, at once and in pieces: %s", async (name) => {
    const golden = readGolden(new URL(`../../golden/multi-head-latent-attention/mla/${name}.safetensors`, import.meta.url));
    const sizes = golden.config as Record<string, number>;
    const layer = new MultiHeadLatentAttention({
      dim: sizes['dim']!,
      heads: sizes['n_heads']!,
      latentDim: sizes['kv_lora_rank']!,
      queryLatentDim: sizes['q_lora_rank']! || null,
      contentDim: sizes['qk_nope_head_dim']!,
      rotaryDim: sizes['qk_rope_head_dim']!,
      valueHeadDim: sizes['v_head_dim']!,
      rotary: { interleaved: true, scaling: golden.config['yarn'] ? { type: 'yarn', factor: 4, originalLength: 32 } : null },
    });
    layer.loadStateDict(
      Object.fromEntries(
        Object.entries(golden.parameters).map(([key, array]) => {
          const [module, parameter] = key.split('.') as [keyof typeof NAMES, string];
          return [`${NAMES[module]}.${parameter}`, transposed(array)];
        }),
      ),
    );
    const x = tf.tensor(Float32Array.from(golden.inputs['x']!.data), [...golden.inputs['x']!.shape]);
    const wanted = golden.outputs['o']!.data;
    const whole = layer.forward(x);
    expect(relativeError64(await whole.output.data(), wanted)).toBeLessThan(1e-5);
    const length = x.shape[1]!;
    let state: State | undefined;
    const outputs: tf.Tensor[] = [];
    for (let from = 0; from < length;) {
      const count = from === 0 ? length - 5 : 1;
      const piece = tf.slice(x, [0, from, 0], [-1, count, -1]);
      const result = layer.forward(piece, state ? { state } : {});
      if (state) disposeState(state);
      piece.dispose();
      outputs.push(result.output);
      state = result.state;
      from += count;
    }
    const joined = tf.concat(outputs, 1);
    expect(relativeError64(await joined.data(), wanted)).toBeLessThan(1e-5);
    tf.dispose([x, whole.output, joined, outputs]);
    disposeState(whole.state);
    disposeState(state!);
    layer.dispose();
  });

  it('keys of 576 channels with values of 512 give outputs and gradients of the expanded form', async () => {
    const [length, C, R, N, V, H] = [6, 512, 64, 8, 8, 2];
    const random = (shape: number[], seed: number): tf.Tensor => tf.randomNormal(shape, 0, 1, 'float32', seed);
    const inputs = [
      random([1, 3, H, N + R], 1),
      random([1, length, C], 2),
      random([1, length, R], 3),
      tf.tidy(() => tf.mul(0.05, random([C, H, N + V], 4))),
    ];
    const weights = random([1, 3, H, V], 5);
    const run = (form: 'parallel' | 'decode') =>
      tf.valueAndGrads((query: tf.Tensor, latent: tf.Tensor, rotaryKey: tf.Tensor, keyValueUp: tf.Tensor) =>
        tf.sum(tf.mul(multiHeadLatentAttention({ query, latent, rotaryKey, keyValueUp }, { form }).output, weights)),
      )(inputs);
    const [absorbed, expanded] = [run('decode'), run('parallel')];
    expect((await absorbed.value.data())[0]).toBeCloseTo((await expanded.value.data())[0]!, 4);
    for (const [i, gradient] of absorbed.grads.entries())
      expect(relativeError64(await gradient.data(), await expanded.grads[i]!.data())).toBeLessThan(1e-5);
    tf.dispose([inputs, weights, absorbed, expanded] as unknown as tf.TensorContainer);
  });
});

describe('the cache and the form', () => {
  it('the cache does not grow with the heads', async () => {
    await setupBackend('cpu');
    const config = { dim: 8, latentDim: 4, contentDim: 3, rotaryDim: 2 };
    const [few, many] = [new MultiHeadLatentAttention({ ...config, heads: 1 }), new MultiHeadLatentAttention({ ...config, heads: 16 })];
    expect(few.stateBytes(1, 100)).toBe(4 * (100 * (4 + 2) + 1));
    expect(many.stateBytes(1, 100)).toBe(few.stateBytes(1, 100));
    const x = tf.zeros([2, 3, 8]);
    const result = many.forward(x);
    expect(result.state['latent']!.shape).toEqual([2, 3, 4]);
    expect(result.state['rotaryKey']!.shape).toEqual([2, 3, 2]);
    disposeState(result.state);
    tf.dispose([x, result.output]);
    few.dispose();
    many.dispose();
  });

  it('whole sequences are expanded, few tokens behind many absorbed', () => {
    const sizes = { latentDim: 512, contentDim: 128, rotaryDim: 64, valueHeadDim: 128 };
    expect(latentForm({ ...sizes, tokens: 4096, keys: 4096 })).toBe('parallel');
    expect(latentForm({ ...sizes, tokens: 1, keys: 1 })).toBe('parallel');
    expect(latentForm({ ...sizes, tokens: 1, keys: 4096 })).toBe('decode');
    expect(latentForm({ ...sizes, tokens: 64, keys: 4096 })).toBe('decode');
  });
});
