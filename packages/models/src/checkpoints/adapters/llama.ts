import type { CheckpointAdapter, Rule } from '../adapter.ts';
import { readRotary } from '../config-reader.ts';
import { transpose } from '../transform.ts';

/** Rules of `model.layers.{i}.self_attn` for an attention layer that is the mixer of its block. */
export function attentionRules(hub = 'model.layers.{i}.self_attn', own = 'stack.layers.{i}.mixer'): Rule[] {
  const parts = [
    ['q_proj', 'query'],
    ['k_proj', 'key'],
    ['v_proj', 'value'],
    ['o_proj', 'output'],
  ] as const;
  return parts.flatMap(([theirs, ours]) => [
    { hub: `${hub}.${theirs}.weight`, own: `${own}.${ours}.weight`, transform: transpose },
    { hub: `${hub}.${theirs}.bias`, own: `${own}.${ours}.bias` },
  ]);
}

/** Rules of a gated feed-forward layer, `gate_proj`, `up_proj` and `down_proj`. */
export function mlpRules(hub = 'model.layers.{i}.mlp', own = 'stack.layers.{i}.channel'): Rule[] {
  return ['gate', 'up', 'down'].flatMap((part) => [
    { hub: `${hub}.${part}_proj.weight`, own: `${own}.${part}.weight`, transform: transpose },
    { hub: `${hub}.${part}_proj.bias`, own: `${own}.${part}.bias` },
  ]);
}

/** Rules of embedding and head; a tied head has no parameter of its own. */
export function outerRules(embedding: string, finalNorm: string): Rule[] {
  return [
    { hub: embedding, own: 'embedding.weight' },
    { hub: finalNorm, own: 'stack.finalNorm.weight' },
    { hub: 'lm_head.weight', own: 'head.weight', transform: transpose },
  ];
}

/**
 * Llama 2 and 3, and whatever else has their form.
 *
 * @see modeling_llama.py of the transformers library
 */
export const llama: CheckpointAdapter = {
  id: 'llama',
  modelTypes: ['llama'],
  keys: [
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
    'head_dim',
    'hidden_act',
    'rms_norm_eps',
    'rope_theta',
    'rope_scaling',
    'attention_bias',
    'mlp_bias',
    'tie_word_embeddings',
  ],
  toHybrid(config) {
    const [dim, heads] = [config.count('hidden_size'), config.count('num_attention_heads')];
    const bias = config.flag('attention_bias', false);
    return {
      vocabSize: config.count('vocab_size'),
      dim,
      depth: config.count('num_hidden_layers'),
      mixers: 'attention',
      channels: 'mlp',
      definitions: {
        attention: {
          type: 'mha-mqa-gqa',
          heads,
          kvHeads: config.count('num_key_value_heads', heads),
          headDim: config.count('head_dim', Math.floor(dim / heads)),
          rotary: readRotary(config),
          bias,
          outputBias: bias,
        },
        mlp: {
          type: 'mlp',
          hidden: config.count('intermediate_size'),
          activation: config.choice('hidden_act', { silu: 'silu', gelu: 'gelu', relu: 'relu' }, 'silu'),
          bias: config.flag('mlp_bias', false),
        },
      },
      norm: { epsilon: config.number('rms_norm_eps', 1e-6) },
      tieEmbeddings: config.flag('tie_word_embeddings', false),
    };
  },
  mapping: (config) => ({
    rules: [
      ...outerRules('model.embed_tokens.weight', 'model.norm.weight'),
      { hub: 'model.layers.{i}.input_layernorm.weight', own: 'stack.layers.{i}.norm1.weight' },
      { hub: 'model.layers.{i}.post_attention_layernorm.weight', own: 'stack.layers.{i}.norm2.weight' },
      ...attentionRules(),
      ...mlpRules(),
    ],
    tied: config.flag('tie_word_embeddings', false) ? [{ hub: 'lm_head.weight', of: 'model.embed_tokens.weight' }] : [],
    ignore: [/\.rotary_emb\.inv_freq$/],
    keepFloat32: [/norm\.weight$/],
  }),
};
