import type { CheckpointAdapter } from '../adapter.ts';
import type { ConfigReader } from '../config-reader.ts';
import { expertRules, PLAIN_EXPERT } from './experts.ts';
import { attentionRules, mlpRules, outerRules } from './llama.ts';
import { onLayers, usedDefinitions } from './on-layers.ts';
import { mambaRules, STATE_SPACE_FLOAT32 } from './mamba.ts';

/** Which layers have attention, and which a mixture of experts. */
function layerKinds(config: ConfigReader): { readonly mixers: string[]; readonly channels: string[] } {
  const layers = Array.from({ length: config.count('num_hidden_layers') }, (_, layer) => layer);
  const every = (layer: number, kind: string): boolean =>
    layer % config.count(`${kind}_layer_period`) === config.natural(`${kind}_layer_offset`);
  const experts = config.count('num_experts', 16);
  return {
    mixers: layers.map((layer) => (every(layer, 'attn') ? 'attention' : 'mamba')),
    channels: layers.map((layer) => (experts > 1 && every(layer, 'expert') ? 'experts' : 'mlp')),
  };
}

/**
 * Jamba: Mamba and attention without positions, with a mixture of experts in every second layer.
 *
 * @see modeling_jamba.py of the transformers library; Lieber et al. 2024, arXiv 2403.19887
 */
export const jamba: CheckpointAdapter = {
  id: 'jamba',
  modelTypes: ['jamba'],
  keys: [
    'attn_layer_period',
    'attn_layer_offset',
    'expert_layer_period',
    'expert_layer_offset',
    'mamba_d_state',
    'mamba_d_conv',
    'mamba_expand',
    'mamba_dt_rank',
    'num_experts',
  ],
  toHybrid(config) {
    const dim = config.count('hidden_size');
    const heads = config.count('num_attention_heads');
    const epsilon = config.number('rms_norm_eps', 1e-6);
    const activation = config.choice('hidden_act', { silu: 'silu', gelu: 'gelu', relu: 'relu' }, 'silu');
    const hidden = config.count('intermediate_size');
    const auto = config.config['mamba_dt_rank'] === 'auto';
    if (activation !== 'silu') config.refuse('hidden_act', 'silu');
    const { mixers, channels } = layerKinds(config);
    const definitions = {
      attention: { type: 'mha-mqa-gqa', heads, kvHeads: config.count('num_key_value_heads', heads), rotary: null },
      mamba: {
        type: 'mamba-s6',
        innerDim: config.count('mamba_expand', 2) * dim,
        stateDim: config.count('mamba_d_state', 16),
        kernelSize: config.count('mamba_d_conv', 4),
        stepRank: auto ? Math.ceil(dim / 16) : config.count('mamba_dt_rank', Math.ceil(dim / 16)),
        convolutionBias: config.flag('mamba_conv_bias', true),
        bias: config.flag('mamba_proj_bias', false),
        selectionNorm: true,
        epsilon,
      },
      mlp: { type: 'mlp', hidden, activation },
      experts: {
        type: 'moe-channel-mixers',
        experts: config.count('num_experts', 16),
        topK: config.count('num_experts_per_tok', 2),
        hidden,
        activation,
        renormalise: false,
      },
    };
    return {
      vocabSize: config.count('vocab_size'),
      dim,
      mixers,
      channels,
      definitions: usedDefinitions(definitions, mixers, channels),
      norm: { epsilon },
      tieEmbeddings: config.flag('tie_word_embeddings', false),
    };
  },
  mapping(config) {
    const { mixers, channels } = layerKinds(config);
    const layer = 'model.layers.{i}';
    return {
      rules: [
        ...outerRules('model.embed_tokens.weight', 'model.final_layernorm.weight'),
        { hub: `${layer}.input_layernorm.weight`, own: 'stack.layers.{i}.norm1.weight' },
        { hub: `${layer}.pre_ff_layernorm.weight`, own: 'stack.layers.{i}.norm2.weight' },
        ...onLayers(mixers, 'attention', attentionRules()),
        ...onLayers(mixers, 'mamba', [
          ...mambaRules(`${layer}.mamba`),
          { hub: `${layer}.mamba.dt_layernorm.weight`, own: 'stack.layers.{i}.mixer.stepNorm.weight' },
          { hub: `${layer}.mamba.b_layernorm.weight`, own: 'stack.layers.{i}.mixer.inputNorm.weight' },
          { hub: `${layer}.mamba.c_layernorm.weight`, own: 'stack.layers.{i}.mixer.outputNorm.weight' },
        ]),
        ...onLayers(channels, 'mlp', mlpRules(`${layer}.feed_forward`)),
        ...onLayers(channels, 'experts', expertRules(`${layer}.feed_forward`, config.count('num_experts', 16), PLAIN_EXPERT, 'router')),
      ],
      tied: config.flag('tie_word_embeddings', false) ? [{ hub: 'lm_head.weight', of: 'model.embed_tokens.weight' }] : [],
      keepFloat32: [...STATE_SPACE_FLOAT32, /router\.weight$/],
    };
  },
};
