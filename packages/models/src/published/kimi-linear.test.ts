import * as tf from '@tensorflow/tfjs-core';
import { deferParameters, setupBackend } from '@seqloom/core';
import { failOnLeaks, furthest } from '@seqloom/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { ConfigReader } from '../checkpoints/config-reader.ts';
import { kimiLinear as adapter } from '../checkpoints/adapters/kimi-linear.ts';
import { defaultComponents } from '../components.ts';
import { resolveHybridConfig } from '../config.ts';
import type { HybridConfig } from '../config.ts';
import { withModel } from '../for-tests/tiny-models.ts';
import { tinyShapes } from '../for-tests/tiny-shapes.ts';
import { HybridModel } from '../hybrid-model.ts';
import { layerDefinitions } from '../layers.ts';
import { publishedConfig } from './index.ts';
import { kimiLinear } from './kimi-linear.ts';

const small = tinyShapes['kimi-linear'];

const row = (...ids: number[]): tf.Tensor2D => tf.tensor2d([ids], [1, ids.length], 'int32');
beforeAll(async () => {
  await setupBackend('wasm', { kernels: [] });
});

failOnLeaks();

describe('the released model', () => {
  const plan = layerDefinitions(resolveHybridConfig(publishedConfig('kimi-linear/48b-a3b')), defaultComponents);

  it('has latent attention in seven layers, the last gap one shorter, and experts after the first layer', () => {
    const at = (type: string): number[] => [...plan.keys()].filter((layer) => plan[layer]!.mixer.type === type);
    expect(at('multi-head-latent-attention')).toEqual([3, 7, 11, 15, 19, 23, 26]);
    expect(at('kimi-delta-attention')).toHaveLength(20);
    expect(plan.map(({ channel }) => channel!.type)).toEqual(['mlp', ...Array.from({ length: 26 }, () => 'moe-channel-mixers')]);
  });

  it('has the parameters of the paper layer by layer, and caches 576 numbers per token in each of the seven', () => {
    const model = deferParameters(() => new HybridModel(publishedConfig('kimi-linear/48b-a3b')));
    const [first, , , fourth] = model.stack.layers;
    expect(first!.mixer.countParameters()).toBe(39_514_272);
    expect(fourth!.mixer.countParameters()).toBe(29_114_880);
    expect(fourth!.channel!.countParameters()).toBe(1_819_607_296);
    expect(model.stateBytes(1, 2000) - model.stateBytes(1, 1000)).toBe(4 * 7 * 576 * 1000);
    model.dispose();
  });
});

describe('order', () => {
  it('comes from the delta layers', () => {
    withModel(kimiLinear.config(small), (model) => {
      tf.tidy(() => {
        expect(furthest(model.next(row(1, 2, 3, 4)).logits, model.next(row(3, 1, 2, 4)).logits)).toBeGreaterThan(1e-4);
      });
    });
  });

  it('of the tokens before the last does not matter to a layer of latent attention alone', () => {
    withModel(kimiLinear.config({ ...small, depth: 1, fullLayers: [0] }), (model) => {
      tf.tidy(() => {
        expect(furthest(model.next(row(1, 2, 3, 4)).logits, model.next(row(3, 1, 2, 4)).logits)).toBeLessThan(1e-6);
        expect(furthest(model.next(row(1, 2, 3, 4)).logits, model.next(row(1, 2, 5, 4)).logits)).toBeGreaterThan(1e-4);
      });
    });
  });
});

describe('latent attention', () => {
  it('absorbed and expanded give the same logits', () => {
    const config = kimiLinear.config(small);
    const inForm = (form: string): HybridConfig => ({ ...config, overrides: [{ at: { mixer: 'full' }, mixer: { form } }] });
    withModel(inForm('parallel'), (expanded) => {
      withModel(inForm('decode'), (absorbed) => {
        tf.tidy(() => {
          const ids = row(1, 5, 2, 9, 3, 3, 7);
          expect(furthest(expanded.forward(ids).logits, absorbed.forward(ids).logits)).toBeLessThan(1e-6);
        });
      });
    });
  });
});

describe('a batch of prompts of different lengths', () => {
  it('gives the logits of each alone, in pieces, and goes on from its caches', () => {
    withModel(kimiLinear.config(small), (model) => {
      tf.tidy(() => {
        const [long, short] = [row(1, 5, 2, 9, 3, 3, 7, 8, 4, 0, 6), row(4, 4, 10, 2, 6, 1, 9)];
        const [first, second] = [model.forward(long).logits, model.forward(short).logits];
        const padded = tf.concat([long, tf.concat([tf.zeros([1, 4], 'int32'), short], 1)], 0);
        const mask = tf.tensor2d([Array.from({ length: 11 }, () => 1), [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]]);
        const cut = (tensor: tf.Tensor, from: number, to: number): tf.Tensor => tf.slice(tensor, [0, from], [2, to - from]);
        let { logits, state } = model.forward(cut(padded, 0, 6), { mask: cut(mask, 0, 6) });
        const pieces = [logits];
        for (const [from, to] of [
          [6, 8],
          [8, 9],
          [9, 10],
          [10, 11],
        ] as const) {
          ({ logits, state } = model.forward(cut(padded, from, to), { mask: cut(mask, from, to), state }));
          pieces.push(logits);
        }
        const joined = tf.concat(pieces, 1);
        expect(furthest(tf.slice(joined, [0, 0, 0], [1, 11, 11]), first)).toBeLessThan(1e-5);
        expect(furthest(tf.slice(joined, [1, 4, 0], [1, 7, 11]), second)).toBeLessThan(1e-5);
      });
    });
  });
});

describe('a checkpoint', () => {
  const full = [4, 8, 12, 16, 20, 24, 27];
  const delta = Array.from({ length: 27 }, (_, layer) => layer + 1).filter((layer) => !full.includes(layer));
  const linear = { kda_layers: delta, full_attn_layers: full, num_heads: 32, head_dim: 128, short_conv_kernel_size: 4 };
  const config = {
    model_type: 'kimi_linear',
    vocab_size: 163840,
    hidden_size: 2304,
    num_hidden_layers: 27,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    head_dim: 72,
    intermediate_size: 9216,
    rms_norm_eps: 1e-5,
    q_lora_rank: null,
    kv_lora_rank: 512,
    qk_nope_head_dim: 128,
    qk_rope_head_dim: 64,
    v_head_dim: 128,
    mla_use_nope: true,
    linear_attn_config: linear,
    first_k_dense_replace: 1,
    num_experts: 256,
    num_experts_per_token: 8,
    num_shared_experts: 1,
    moe_intermediate_size: 1024,
    moe_router_activation_func: 'sigmoid',
    moe_renormalize: true,
    use_grouped_topk: true,
    num_expert_group: 1,
    topk_group: 1,
    routed_scaling_factor: 2.446,
  };

  it('of 48B counts its layers from 1, and is the published size', () => {
    expect(adapter.toHybrid(new ConfigReader(config))).toEqual(publishedConfig('kimi-linear/48b-a3b'));
  });

  it.each([
    ['q_lora_rank', 1536],
    ['mla_use_nope', false],
    ['num_key_value_heads', 8],
    ['moe_layer_freq', 2],
    ['num_nextn_predict_layers', 1],
    ['linear_attn_config', null],
    ['kda_layers', { ...linear, kda_layers: delta.map((layer) => layer - 1) }],
    ['kda_layers', { ...linear, full_attn_layers: full.slice(1) }],
  ])('with another %s is refused', (key, value) => {
    const changed = key === 'kda_layers' ? { linear_attn_config: value } : { [key]: value };
    expect(() => adapter.toHybrid(new ConfigReader({ ...config, ...changed }))).toThrow(key);
  });
});
