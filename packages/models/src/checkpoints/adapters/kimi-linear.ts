import { kimiLinear as architecture } from '../../published/kimi-linear.ts';
import type { CheckpointAdapter, Rule } from '../adapter.ts';
import type { ConfigReader } from '../config-reader.ts';
import { chain, reshape, squeeze, stack, transpose } from '../transform.ts';
import { mlpRules, outerRules } from './llama.ts';

/**
 * Kimi Linear. The layer lists of its config count from 1.
 *
 * @see modeling_kimi.py of moonshotai/Kimi-Linear-48B-A3B-Instruct
 */
export const kimiLinear: CheckpointAdapter = {
  id: 'kimi-linear',
  modelTypes: ['kimi_linear'],
  keys: [
    'vocab_size',
    'hidden_size',
    'num_hidden_layers',
    'num_attention_heads',
    'kv_lora_rank',
    'qk_nope_head_dim',
    'qk_rope_head_dim',
    'v_head_dim',
    'mla_use_nope',
    'linear_attn_config',
    'num_experts',
    'num_experts_per_token',
    'moe_intermediate_size',
    'first_k_dense_replace',
    'routed_scaling_factor',
    'moe_router_activation_func',
    'rms_norm_eps',
  ],
  toHybrid(config) {
    const depth = config.count('num_hidden_layers');
    const linear = delta(config);
    const [fullLayers, deltaLayers] = [linear.naturals('full_attn_layers'), linear.naturals('kda_layers')];
    const all = [...fullLayers, ...deltaLayers].toSorted((a, b) => a - b);
    if (all.length !== depth || all.some((layer, place) => layer !== place + 1))
      linear.refuse('kda_layers', `with full_attn_layers every layer from 1 to ${depth} once`);
    config.choice('hidden_act', { silu: true }, 'silu');
    if (config.has('q_lora_rank')) config.refuse('q_lora_rank', 'null');
    if (!config.flag('mla_use_nope')) config.refuse('mla_use_nope', 'true');
    const heads = config.count('num_attention_heads');
    if (config.count('num_key_value_heads', heads) !== heads) config.refuse('num_key_value_heads', `${heads}, the number of heads`);
    if (config.count('moe_layer_freq', 1) !== 1) config.refuse('moe_layer_freq', '1');
    if (config.natural('num_nextn_predict_layers', 0) > 0) config.refuse('num_nextn_predict_layers', '0');
    const grouped = config.flag('use_grouped_topk', true);
    const expertHidden = config.count('moe_intermediate_size');
    return architecture.config({
      vocabSize: config.count('vocab_size'),
      dim: config.count('hidden_size'),
      depth,
      fullLayers: fullLayers.map((layer) => layer - 1),
      heads,
      deltaHeads: linear.count('num_heads'),
      deltaHeadDim: linear.count('head_dim'),
      kernelSize: linear.count('short_conv_kernel_size', 4),
      latentDim: config.count('kv_lora_rank'),
      contentDim: config.count('qk_nope_head_dim'),
      sharedKeyDim: config.natural('qk_rope_head_dim'),
      valueHeadDim: config.count('v_head_dim'),
      hidden: config.count('intermediate_size'),
      denseLayers: config.natural('first_k_dense_replace', 0),
      experts: config.count('num_experts'),
      topK: config.count('num_experts_per_token'),
      expertHidden,
      sharedHidden: config.natural('num_shared_experts', 0) * expertHidden,
      groups: grouped ? config.count('num_expert_group', 1) : 1,
      groupTopK: grouped ? config.count('topk_group', 1) : 1,
      expertScale: config.number('routed_scaling_factor', 1),
      score: config.choice('moe_router_activation_func', { sigmoid: 'sigmoid', softmax: 'softmax' } as const, 'sigmoid'),
      renormalise: config.flag('moe_renormalize', true),
      epsilon: config.number('rms_norm_eps', 1e-6),
      tied: config.flag('tie_word_embeddings', false),
    });
  },
  mapping(config) {
    const linear = delta(config);
    const experts = config.count('num_experts');
    const heads = linear.count('num_heads');
    const [hub, own] = ['model.layers.{i}.self_attn', 'stack.layers.{i}.mixer'];
    const [moe, channel] = ['model.layers.{i}.block_sparse_moe', 'stack.layers.{i}.channel'];
    const matrices = {
      // of both kinds of layers
      q_proj: 'query',
      o_proj: 'output',
      // Kimi Delta Attention
      k_proj: 'key',
      v_proj: 'value',
      f_a_proj: 'decayDown',
      f_b_proj: 'decayUp',
      b_proj: 'beta',
      g_a_proj: 'gateDown',
      g_b_proj: 'gateUp',
      // latent attention
      kv_a_proj_with_mqa: 'keyValueDown',
      kv_b_proj: 'keyValueUp',
    };
    const parts = { w1: 'gate', w3: 'up', w2: 'down' };
    const rules: Rule[] = [
      ...outerRules('model.embed_tokens.weight', 'model.norm.weight'),
      { hub: 'model.layers.{i}.input_layernorm.weight', own: 'stack.layers.{i}.norm1.weight' },
      { hub: 'model.layers.{i}.post_attention_layernorm.weight', own: 'stack.layers.{i}.norm2.weight' },
      ...Object.entries(matrices).map(([theirs, ours]) => ({
        hub: `${hub}.${theirs}.weight`,
        own: `${own}.${ours}.weight`,
        transform: transpose,
      })),
      ...(['query', 'key', 'value'] as const).map((part) => ({
        hub: `${hub}.${part[0]}_conv1d.weight`,
        own: `${own}.${part}Convolution.weight`,
        transform: squeeze(1),
      })),
      { hub: `${hub}.A_log`, own: `${own}.logRate`, transform: reshape([1, 1, heads, 1], [heads]) },
      { hub: `${hub}.dt_bias`, own: `${own}.stepBias` },
      { hub: `${hub}.o_norm.weight`, own: `${own}.norm.weight` },
      { hub: `${hub}.kv_a_layernorm.weight`, own: `${own}.keyValueNorm.weight` },
      ...mlpRules(),
      { hub: `${moe}.gate.weight`, own: `${channel}.router.weight`, transform: transpose },
      { hub: `${moe}.gate.e_score_correction_bias`, own: `${channel}.selectionBias` },
      ...Object.entries(parts).map(([theirs, ours]) => ({
        hub: `${moe}.experts.{e}.${theirs}.weight`,
        own: `${channel}.${ours}`,
        transform: chain(transpose, stack(experts)),
        experts,
      })),
      ...mlpRules(`${moe}.shared_experts`, `${channel}.shared`),
    ];
    return {
      rules,
      tied: config.flag('tie_word_embeddings', false) ? [{ hub: 'lm_head.weight', of: 'model.embed_tokens.weight' }] : [],
      keepFloat32: [/\.A_log$/, /\.dt_bias$/, /norm\.weight$/, /\.gate\.weight$/, /\.e_score_correction_bias$/],
    };
  },
};

function delta(config: ConfigReader): ConfigReader {
  return config.part('linear_attn_config') ?? config.refuse('linear_attn_config', 'an object');
}
