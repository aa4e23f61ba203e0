import * as tf from '@tensorflow/tfjs-core';
import { setupBackend } from '@seqloom/core';
import { failOnLeaks, furthest } from '@seqloom/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { ConfigReader } from '../checkpoints/config-reader.ts';
import { falconH1 as adapter } from '../checkpoints/adapters/falcon-h1.ts';
import { tokenIds } from '../for-tests/tiny-models.ts';
import { HybridModel } from '../hybrid-model.ts';
import { falconH1 } from './falcon-h1.ts';
import type { FalconH1Multipliers, FalconH1Shape } from './falcon-h1.ts';
import { publishedConfig } from './index.ts';
import { transformerPp } from './transformer-pp.ts';

const small: FalconH1Shape = {
  vocabSize: 11,
  dim: 8,
  depth: 2,
  heads: 2,
  kvHeads: 1,
  headDim: 6,
  innerDim: 12,
  mambaHeadDim: 4,
  stateDim: 3,
  hidden: 12,
  mambaNorm: 'after-gate',
  rotary: { base: 100 },
};
const multipliers: Required<FalconH1Multipliers> = {
  embedding: 2,
  logits: 0.5,
  attentionInput: 1.1,
  attentionOutput: 0.9,
  key: 0.7,
  mambaInput: 1.3,
  mambaOutput: 0.6,
  mambaParts: [0.9, 0.8, 1.1, 1.2, 0.7],
  mlpGate: 0.8,
  mlpOutput: 0.9,
};

beforeAll(async () => {
  await setupBackend('wasm', { kernels: [] });
});

failOnLeaks();

describe('the factors', () => {
  it('folded into the weights give the same logits', () => {
    const model = new HybridModel(falconH1.config({ ...small, multipliers }));
    const folded = new HybridModel(falconH1.config(small));
    const m = multipliers;
    tf.tidy(() => {
      const widths = [12, 12, 3, 3, 3];
      const parts = tf.concat(m.mambaParts.map((part, place) => tf.fill([widths[place]!], part * m.mambaInput)));
      const factors: readonly (readonly [RegExp, number | tf.Tensor])[] = [
        [/^embedding\.weight$/, m.embedding],
        [/^head\.weight$/, m.logits],
        [/branches\.0\.mixer\.(query|value)\.weight$/, m.attentionInput],
        [/branches\.0\.mixer\.key\.weight$/, m.attentionInput * m.key],
        [/branches\.0\.mixer\.output\.weight$/, m.attentionOutput],
        [/branches\.1\.mixer\.input\.weight$/, parts],
        [/branches\.1\.mixer\.output\.weight$/, m.mambaOutput],
        [/channel\.gate\.weight$/, m.mlpGate],
        [/channel\.down\.weight$/, m.mlpOutput],
      ];
      const weights = model.namedParameters();
      const used = new Set<RegExp>();
      for (const [name, parameter] of folded.namedParameters()) {
        const found = factors.find(([pattern]) => pattern.test(name));
        if (found) used.add(found[0]);
        parameter.assign(tf.mul(weights.get(name)!.value, found?.[1] ?? 1));
      }
      expect(used.size).toBe(factors.length);
      expect(furthest(model.forward(tokenIds(2, 9)).logits, folded.forward(tokenIds(2, 9)).logits)).toBeLessThan(1e-6);
      // each of them matters
      for (const name of Object.keys(m) as (keyof FalconH1Multipliers)[]) {
        const without = new HybridModel(falconH1.config({ ...small, multipliers: { ...m, [name]: undefined } }));
        expect(furthest(model.forward(tokenIds(2, 9)).logits, without.forward(tokenIds(2, 9)).logits), name).toBeGreaterThan(1e-7);
        without.dispose();
      }
    });
    model.dispose();
    folded.dispose();
  });
});

describe('without the state space', () => {
  it('it is Transformer++', () => {
    const model = new HybridModel(falconH1.config({ ...small, multipliers: { mambaOutput: 0 } }));
    const { vocabSize, dim, depth, heads, kvHeads, headDim, hidden } = small;
    const plain = new HybridModel(
      transformerPp.config({ vocabSize, dim, depth, heads, kvHeads, headDim, hidden, rotaryBase: 100, epsilon: 1e-5 }),
    );
    tf.tidy(() => {
      const weights = model.namedParameters();
      for (const [name, parameter] of plain.namedParameters())
        parameter.assign(weights.get(name.replace('.mixer.', '.mixer.branches.0.mixer.'))!.value);
      expect(furthest(model.forward(tokenIds(2, 9)).logits, plain.forward(tokenIds(2, 9)).logits)).toBeLessThan(1e-6);
    });
    model.dispose();
    plain.dispose();
  });
});

describe('a batch of prompts of different lengths', () => {
  it('gives the logits of each alone, padded on the left, and goes on from both caches', () => {
    const model = new HybridModel(falconH1.config({ ...small, multipliers, mambaNorm: null }));
    expect(Object.keys(model.stack.stateShapes(1)).filter((name) => name.startsWith('0.'))).toEqual(
      expect.arrayContaining(['0.0.key', '0.0.value', '0.1.memory', '0.1.window']),
    );
    tf.tidy(() => {
      const whole = tokenIds(2, 12);
      const alone = model.forward(whole).logits;
      const short = tf.concat([tf.fill([1, 3], 9, 'int32'), tf.slice(whole, [1, 0], [1, 5])], 1);
      const mask = tf.tensor2d([
        [1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1, 1],
      ]);
      let { logits, state } = model.forward(tf.concat([tf.slice(whole, [0, 0], [1, 8]), short], 0), { mask });
      expect(furthest(tf.slice(logits, [0, 0, 0], [1, 8, 11]), tf.slice(alone, [0, 0, 0], [1, 8, 11]))).toBeLessThan(1e-5);
      expect(furthest(tf.slice(logits, [1, 3, 0], [1, 5, 11]), tf.slice(alone, [1, 0, 0], [1, 5, 11]))).toBeLessThan(1e-5);
      for (let step = 0; step < 4; step++) {
        const next = tf.concat([tf.slice(whole, [0, 8 + step], [1, 1]), tf.slice(whole, [1, 5 + step], [1, 1])], 0);
        ({ logits, state } = model.forward(next, { state }));
        const wanted = tf.concat([tf.slice(alone, [0, 8 + step, 0], [1, 1, 11]), tf.slice(alone, [1, 5 + step, 0], [1, 1, 11])], 0);
        expect(furthest(logits, wanted)).toBeLessThan(1e-5);
      }
    });
    model.dispose();
  });
});

describe('a checkpoint', () => {
  const config = {
    model_type: 'falcon_h1',
    vocab_size: 32784,
    hidden_size: 1024,
    intermediate_size: 2048,
    num_hidden_layers: 36,
    num_attention_heads: 8,
    num_key_value_heads: 2,
    head_dim: 64,
    mamba_d_ssm: 1536,
    mamba_n_heads: 24,
    mamba_d_head: 64,
    mamba_d_state: 128,
    mamba_rms_norm: false,
    rms_norm_eps: 1e-5,
    rope_theta: 1e11,
    tie_word_embeddings: false,
    embedding_multiplier: 5.656854249492381,
    lm_head_multiplier: 0.0390625,
    attention_out_multiplier: 0.9375,
    key_multiplier: 0.39062499999999994,
    ssm_in_multiplier: 1.25,
    ssm_out_multiplier: 0.23570226039551587,
    ssm_multipliers: [0.3535533905932738, 0.25, 0.3535533905932738, 0.5, 0.3535533905932738],
    mlp_multipliers: [0.8838834764831844, 0.5859375],
    time_step_limit: [0, Infinity],
  };

  it('of 0.5B is the published size', () => {
    expect(adapter.toHybrid(new ConfigReader(config))).toEqual(publishedConfig('falcon-h1/0.5b'));
  });

  it.each([
    ['mamba_n_heads', 25],
    ['hidden_act', 'gelu'],
    ['projectors_bias', true],
    ['attn_layer_indices', [1, 3]],
    ['ssm_multipliers', [1, 1, 1]],
    ['mlp_multipliers', [1, 0]],
    ['key_multiplier', 0],
    ['time_step_limit', [0]],
  ])('with another %s is refused', (key, value) => {
    expect(() => adapter.toHybrid(new ConfigReader({ ...config, [key]: value }))).toThrow(key);
  });
});
