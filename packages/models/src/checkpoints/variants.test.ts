import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import { setupBackend } from '@seqloom/core';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { HybridModel } from '../hybrid-model.ts';
import { findAdapter } from './adapters/index.ts';
import { ConfigReader } from './config-reader.ts';
import type { HubConfig } from './config-reader.ts';
import { fromPretrained } from './from-pretrained.ts';
import { planMapping } from './mapping.ts';
import { savePretrained } from './save-pretrained.ts';

/** Settings that the golden checkpoints do not have: each changes which tensors there are, or how they lie. */
const rows: readonly (readonly [golden: string, what: string, change: HubConfig, absent?: readonly string[]])[] = [
  ['llama', 'biases and a tied head', { attention_bias: true, mlp_bias: true, tie_word_embeddings: true }],
  ['llama', 'heads of another width', { head_dim: 6 }],
  [
    'mamba',
    'biases, an own head, a rank by width',
    { use_bias: true, use_conv_bias: false, tie_word_embeddings: false, time_step_rank: 'auto' },
  ],
  ['mamba2', 'biases, a tied head, limits on steps', { use_bias: true, tie_word_embeddings: true, time_step_limit: [0.001, 0.1] }],
  ['jamba', 'no experts', { num_experts: 1, num_experts_per_tok: 1 }],
  ['jamba', 'projection biases and a tied head', { mamba_proj_bias: true, mamba_conv_bias: false, tie_word_embeddings: true }],
  [
    'minimax',
    'the keys of the first releases',
    {
      model_type: 'minimax_text_01',
      attn_type_list: [0, 1, 0],
      rotary_dim: 4,
      postnorm: true,
      shared_intermediate_size: 0,
      layernorm_linear_attention_alpha: 3,
      layernorm_full_attention_alpha: 3,
      layernorm_mlp_alpha: 3,
    },
    ['layer_types', 'linear_attn_alpha_factor', 'full_attn_alpha_factor', 'mlp_alpha_factor'],
  ],
  ['qwen3_next', 'layers by interval', { full_attention_interval: 2, mlp_only_layers: [], decoder_sparse_step: 2 }, ['layer_types']],
  ['qwen3_next', 'more value heads and a tied head', { linear_num_value_heads: 6, tie_word_embeddings: true }],
  ['deepseek_v3', 'queries of the input, no shared expert', { q_lora_rank: null, n_shared_experts: 0, first_k_dense_replace: 0 }],
  [
    'deepseek_v3',
    'YaRN',
    {
      rope_scaling: {
        type: 'yarn',
        factor: 40,
        mscale: 1,
        mscale_all_dim: 1,
        beta_fast: 32,
        beta_slow: 1,
        original_max_position_embeddings: 64,
      },
    },
  ],
  ['fla_gla', 'short convolutions, no output gate', { use_short_conv: true, use_output_gate: false, clamp_min: -5 }],
  ['fla_delta_net', 'an output gate, no convolutions, beta one', { use_gate: true, use_short_conv: false, use_beta: false }],
  ['fla_gated_deltanet', 'no gate, more value heads', { use_gate: false, num_v_heads: 4, allow_neg_eigval: true }],
  ['fla_kda', 'no convolutions, bounded decays', { use_short_conv: false, safe_gate: true, lower_bound: -5 }],
];

describe('checkpoints with other settings', () => {
  let folder: string;
  beforeAll(async () => {
    await setupBackend('cpu');
  });
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'seqloom-variants-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const cases = rows.map(([golden, what, change, absent = []]) => ({ golden, what, change, absent }));
  it.each(cases)('$golden with $what are saved with every parameter once, and come back', async ({ golden, change, absent }) => {
    const before = tf.memory().numTensors;
    const path = fileURLToPath(new URL(`../../golden/models/${golden}/config.json`, import.meta.url));
    const base = JSON.parse(await readFile(path, 'utf8')) as HubConfig;
    const config = Object.fromEntries(Object.entries({ ...base, ...change }).filter(([key]) => !absent.includes(key)));
    const reading = new ConfigReader(config);
    const adapter = findAdapter(reading);
    const model = new HybridModel(adapter.toHybrid(reading));
    const shapes = new Map([...model.namedParameters()].map(([name, { shape }]) => [name, shape]));
    const { groups, without } = planMapping(adapter.mapping(reading, shapes), shapes, model.stack.layers.length);
    expect(without).toEqual([]);
    const names = groups.flatMap(({ hub }) => hub);
    expect(new Set(names).size).toBe(names.length);
    await savePretrained(model, join(folder, 'saved'), { config });
    const again = await fromPretrained(join(folder, 'saved'));
    expect(await again.model.stateDict()).toEqual(await model.stateDict());
    expect(again.report.parameters).toBe(model.countParameters());
    again.model.dispose();
    model.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each([
    ['llama', { hidden_act: 'relu6' }],
    ['mamba', { hidden_act: 'gelu' }],
    ['mamba2', { num_heads: 7 }],
    ['mamba2', { rms_norm: false }],
    ['minimax', { postnorm: false }],
    ['minimax', { shared_intermediate_size: 8 }],
    ['minimax', { layer_types: ['linear_attention'] }],
    ['qwen3_next', { attention_bias: true }],
    ['deepseek_v3', { scoring_func: 'softmax' }],
    ['deepseek_v3', { rope_scaling: { type: 'yarn', factor: 40, mscale: 1, mscale_all_dim: 0.5, original_max_position_embeddings: 64 } }],
    ['fla_gla', { use_gv: true }],
    ['fla_gla', { attn: { layers: [1], num_heads: 2 } }],
    ['fla_delta_net', { qk_activation: 'tanh' }],
  ])('%s with %j is refused by name', async (golden, change) => {
    const path = fileURLToPath(new URL(`../../golden/models/${golden}/config.json`, import.meta.url));
    const reading = new ConfigReader({ ...(JSON.parse(await readFile(path, 'utf8')) as HubConfig), ...change });
    expect(() => findAdapter(reading).toHybrid(reading)).toThrow(new RegExp(`config\\.json ${Object.keys(change)[0]}`));
  });
});
