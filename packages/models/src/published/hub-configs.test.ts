import { setupBackend } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { findAdapter } from '../checkpoints/adapters/index.ts';
import { ConfigReader } from '../checkpoints/config-reader.ts';
import type { HybridConfig } from '../config.ts';
import { HybridModel } from '../hybrid-model.ts';
import { architectures } from './index.ts';

/** A config.json with the settings of a release at a small size, and the shape of the architecture that says the same. */
const rows: readonly { readonly name: string; readonly hub: Readonly<Record<string, unknown>>; readonly config: HybridConfig }[] = [
  {
    name: 'Llama 3.2',
    hub: {
      model_type: 'llama',
      vocab_size: 11,
      hidden_size: 16,
      intermediate_size: 24,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 4,
      rms_norm_eps: 1e-5,
      rope_theta: 500000,
      rope_scaling: {
        rope_type: 'llama3',
        factor: 32,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 8,
      },
      tie_word_embeddings: true,
    },
    config: architectures['transformer-pp'].config({
      vocabSize: 11,
      dim: 16,
      depth: 2,
      heads: 4,
      kvHeads: 2,
      hidden: 24,
      rotaryBase: 5e5,
      rotaryScaling: { factor: 32, originalLength: 8 },
      epsilon: 1e-5,
      tied: true,
    }),
  },
  {
    name: 'Mamba',
    hub: { model_type: 'mamba', vocab_size: 11, hidden_size: 16, state_size: 16, num_hidden_layers: 2, time_step_rank: 1 },
    config: architectures['mamba-lm'].config({ layer: 'mamba', vocabSize: 11, dim: 16, depth: 2 }),
  },
  {
    name: 'Mamba-2',
    hub: {
      model_type: 'mamba2',
      vocab_size: 11,
      hidden_size: 16,
      state_size: 128,
      num_hidden_layers: 2,
      num_heads: 4,
      head_dim: 8,
      n_groups: 1,
      tie_word_embeddings: true,
    },
    config: architectures['mamba-lm'].config({ layer: 'mamba2', vocabSize: 11, dim: 16, depth: 2, headDim: 8 }),
  },
  {
    name: 'Jamba',
    hub: {
      model_type: 'jamba',
      vocab_size: 11,
      hidden_size: 16,
      intermediate_size: 24,
      num_hidden_layers: 8,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      num_experts: 4,
      num_experts_per_tok: 2,
      expert_layer_period: 2,
      expert_layer_offset: 1,
      attn_layer_period: 8,
      attn_layer_offset: 4,
      mamba_d_state: 16,
      mamba_dt_rank: 'auto',
      rms_norm_eps: 1e-6,
      tie_word_embeddings: false,
    },
    config: architectures.jamba.config({ vocabSize: 11, dim: 16, depth: 8, heads: 4, kvHeads: 2, hidden: 24, experts: 4, topK: 2 }),
  },
  {
    name: 'MiniMax-Text-01',
    hub: {
      model_type: 'minimax_text_01',
      vocab_size: 11,
      hidden_size: 16,
      intermediate_size: 12,
      num_hidden_layers: 8,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 8,
      num_local_experts: 4,
      num_experts_per_tok: 2,
      rotary_dim: 4,
      rope_theta: 10_000_000,
      rms_norm_eps: 1e-5,
      attn_type_list: [0, 0, 0, 0, 0, 0, 0, 1],
      layernorm_linear_attention_alpha: 2,
      layernorm_full_attention_alpha: 2,
      layernorm_mlp_alpha: 2,
      postnorm: true,
    },
    config: architectures['minimax-text-01-m1'].config({
      vocabSize: 11,
      dim: 16,
      depth: 8,
      heads: 4,
      kvHeads: 2,
      headDim: 8,
      experts: 4,
      topK: 2,
      expertHidden: 12,
    }),
  },
  {
    name: 'Qwen3-Next',
    hub: {
      model_type: 'qwen3_next',
      vocab_size: 11,
      hidden_size: 16,
      intermediate_size: 24,
      num_hidden_layers: 4,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 8,
      partial_rotary_factor: 0.25,
      rope_theta: 10_000_000,
      linear_num_key_heads: 2,
      linear_num_value_heads: 4,
      linear_key_head_dim: 4,
      linear_value_head_dim: 6,
      num_experts: 4,
      num_experts_per_tok: 2,
      moe_intermediate_size: 5,
      shared_expert_intermediate_size: 7,
      rms_norm_eps: 1e-6,
    },
    config: architectures['qwen3-next'].config({
      vocabSize: 11,
      dim: 16,
      depth: 4,
      heads: 4,
      kvHeads: 2,
      headDim: 8,
      linearHeads: 2,
      linearHeadDim: 4,
      linearValueHeads: 4,
      linearValueDim: 6,
      experts: 4,
      topK: 2,
      expertHidden: 5,
      sharedHidden: 7,
    }),
  },
];

beforeAll(async () => {
  await setupBackend('wasm', { kernels: [] });
});

describe('an architecture is what the adapter of its checkpoints builds', () => {
  it.each(rows)('$name', ({ hub, config }) => {
    const reader = new ConfigReader(hub, 'config.json');
    const loaded = new HybridModel(findAdapter(reader).toHybrid(reader));
    const model = new HybridModel(config);
    const weights = loaded.namedParameters();
    expect([...model.namedParameters()].map(([name, { shape }]) => [name, shape])).toEqual(
      [...weights].map(([name, { shape }]) => [name, shape]),
    );
    for (const [name, parameter] of model.namedParameters()) parameter.assign(weights.get(name)!.value);
    tf.tidy(() => {
      const ids = tf.tensor2d([1, 5, 9, 2, 7, 7, 0, 3, 4, 10, 6, 1], [1, 12], 'int32');
      const difference = tf.max(tf.abs(tf.sub(model.forward(ids).logits, loaded.forward(ids).logits))).dataSync()[0];
      expect(difference).toBe(0);
    });
    model.dispose();
    loaded.dispose();
  });
});
