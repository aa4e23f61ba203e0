import type { CheckpointAdapter } from '../adapter.ts';
import type { ConfigReader } from '../config-reader.ts';
import { readRotary } from '../config-reader.ts';
import { chain, transpose, unGroup } from '../transform.ts';
import { expertRules } from './experts.ts';
import { attentionRules, outerRules } from './llama.ts';
import { onLayers, usedDefinitions } from './on-layers.ts';

const LINEAR = 'linear_attention';
const FULL = 'full_attention';

/** Kind of every layer: a list of words, or (in the first releases) of 0 for lightning and 1 for softmax attention. */
function layerTypes(config: ConfigReader): readonly string[] {
  const depth = config.count('num_hidden_layers');
  const types = config.has('layer_types')
    ? config.words('layer_types', [LINEAR, FULL])
    : config.naturals('attn_type_list').map((kind) => (kind === 1 ? FULL : LINEAR));
  if (types.length !== depth) config.refuse(config.has('layer_types') ? 'layer_types' : 'attn_type_list', `a list of ${depth} layers`);
  return types;
}

/** A residual factor under the name of the transformers library, or of the first releases. */
function factor(config: ConfigReader, name: 'linear_attn' | 'full_attn' | 'mlp', part: 'alpha' | 'beta'): number {
  const first = { linear_attn: 'layernorm_linear_attention', full_attn: 'layernorm_full_attention', mlp: 'layernorm_mlp' }[name];
  return config.number(`${name}_${part}_factor`, config.number(`${first}_${part}`, 1));
}

/**
 * MiniMax-Text-01 and MiniMax-M1: lightning attention, softmax attention in every eighth layer, experts, residuals that carry the norm's output.
 *
 * @see modeling_minimax.py of the transformers library; MiniMax 2025, arXiv 2501.08313 and 2506.13585
 */
export const minimax: CheckpointAdapter = {
  id: 'minimax',
  modelTypes: ['minimax', 'minimax_text_01', 'minimax_m1'],
  keys: [
    'attn_type_list',
    'layer_types',
    'num_local_experts',
    'block_size',
    'postnorm',
    'linear_attn_alpha_factor',
    'full_attn_alpha_factor',
  ],
  toHybrid(config) {
    const [dim, heads] = [config.count('hidden_size'), config.count('num_attention_heads')];
    const headDim = config.count('head_dim', Math.floor(dim / heads));
    const activation = config.choice('hidden_act', { silu: 'silu' }, 'silu');
    if (!config.flag('postnorm', true)) config.refuse('postnorm', 'true');
    if (config.natural('shared_intermediate_size', 0) !== 0) config.refuse('shared_intermediate_size', '0');
    const rotated = config.has('rotary_dim') ? config.count('rotary_dim') : Math.floor(headDim * config.number('partial_rotary_factor', 1));
    const carry = (name: 'linear_attn' | 'full_attn'): Record<string, number> => ({
      mixerCarry: factor(config, name, 'alpha'),
      mixerScale: factor(config, name, 'beta'),
    });
    const types = layerTypes(config);
    const mixers = types.map((type) => (type === LINEAR ? 'linear' : 'attention'));
    const kinds = [
      ['linear', LINEAR, 'linear_attn'],
      ['attention', FULL, 'full_attn'],
    ] as const;
    const used = kinds.filter(([, type]) => types.includes(type));
    const definitions = {
      linear: { type: 'lightning-attention', heads, headDim, layer: '$layer', layers: '$layers' },
      attention: {
        type: 'mha-mqa-gqa',
        heads,
        kvHeads: config.count('num_key_value_heads', heads),
        headDim,
        rotary: readRotary(config, rotated),
      },
    };
    return {
      vocabSize: config.count('vocab_size'),
      dim,
      mixers,
      channels: 'experts',
      definitions: {
        ...usedDefinitions(definitions, mixers),
        experts: {
          type: 'moe-channel-mixers',
          experts: config.count('num_local_experts', 8),
          topK: config.count('num_experts_per_tok', 2),
          hidden: config.count('intermediate_size'),
          activation,
        },
      },
      norm: { epsilon: config.number('rms_norm_eps', 1e-5) },
      residual: { style: 'normalised', channelCarry: factor(config, 'mlp', 'alpha'), channelScale: factor(config, 'mlp', 'beta') },
      overrides: used.map(([mixer, , name]) => ({ at: { mixer }, residual: carry(name) })),
      tieEmbeddings: config.flag('tie_word_embeddings', false),
    };
  },
  mapping(config) {
    const [dim, heads] = [config.count('hidden_size'), config.count('num_attention_heads')];
    const headDim = config.count('head_dim', Math.floor(dim / heads));
    const attention = 'model.layers.{i}.self_attn';
    const mixer = 'stack.layers.{i}.mixer';
    const types = layerTypes(config);
    const names = { gate: 'w1', down: 'w2', up: 'w3' };
    return {
      rules: [
        ...outerRules('model.embed_tokens.weight', 'model.norm.weight'),
        { hub: 'model.layers.{i}.input_layernorm.weight', own: 'stack.layers.{i}.norm1.weight' },
        { hub: 'model.layers.{i}.post_attention_layernorm.weight', own: 'stack.layers.{i}.norm2.weight' },
        ...onLayers(types, FULL, attentionRules()),
        ...onLayers(types, LINEAR, [
          {
            // rows lie head by head, [query | key | value] in each
            hub: `${attention}.qkv_proj.weight`,
            own: ['query', 'key', 'value'].map((part) => `${mixer}.${part}.weight`),
            transform: chain(unGroup(heads, [headDim, headDim, headDim], dim), transpose),
          },
          { hub: `${attention}.output_gate.weight`, own: `${mixer}.gate.weight`, transform: transpose },
          { hub: `${attention}.norm.weight`, own: `${mixer}.norm.weight` },
          { hub: `${attention}.out_proj.weight`, own: `${mixer}.output.weight`, transform: transpose },
        ]),
        ...expertRules('model.layers.{i}.block_sparse_moe', config.count('num_local_experts', 8), names),
      ],
      tied: config.flag('tie_word_embeddings', false) ? [{ hub: 'lm_head.weight', of: 'model.embed_tokens.weight' }] : [],
      ignore: [/\.rotary_emb\.inv_freq$/, /\.self_attn\.(slope_rate|query_decay|key_decay|diagonal_decay)$/],
      keepFloat32: [/norm\.weight$/, /block_sparse_moe\.gate\.weight$/],
    };
  },
};
