import { hymba as architecture } from '../../published/hymba.ts';
import type { HymbaShape } from '../../published/hymba.ts';
import type { CheckpointAdapter, Rule } from '../adapter.ts';
import type { ConfigReader } from '../config-reader.ts';
import { chain, split, squeeze, transpose } from '../transform.ts';
import { mlpRules, outerRules } from './llama.ts';

/**
 * Hymba. A layer's fused projection holds the rows of queries, keys, values, Mamba's values and its gate, in this order; that of a layer
 * that takes the keys and values of another has none of the two.
 *
 * @see modeling_hymba.py of nvidia/Hymba-1.5B-Base
 */
export const hymba: CheckpointAdapter = {
  id: 'hymba',
  modelTypes: ['hymba'],
  keys: [
    'vocab_size',
    'hidden_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
    'intermediate_size',
    'mamba_expand',
    'mamba_d_state',
    'mamba_d_conv',
    'mamba_dt_rank',
    'mamba_inner_layernorms',
    'num_memory_tokens',
    'sliding_window',
    'global_attn_idx',
    'kv_reuse_group',
    'rope_type',
    'rms_norm_eps',
    'tie_word_embeddings',
  ],
  toHybrid: (config) => architecture.config(readShape(config)),
  mapping(config) {
    const { dim, depth, heads, kvHeads, innerDim = 2 * dim, headDim = dim / heads, keyValueGroups } = readShape(config);
    const consumers = keyValueGroups.flatMap(([, ...rest]) => rest);
    const producers = Array.from({ length: depth }, (_, layer) => layer).filter((layer) => !consumers.includes(layer));
    const [hub, own] = ['model.layers.{i}.mamba', 'stack.layers.{i}.mixer'];
    const [attention, mamba] = [`${own}.branches.0`, `${own}.branches.1`];
    const [query, input] = [`${attention}.mixer.query.weight`, `${mamba}.mixer.input.weight`];
    const rows = { query: heads * headDim, key: kvHeads * headDim, value: (kvHeads * innerDim) / heads, input: 2 * innerDim };
    const rules: Rule[] = [
      ...outerRules('model.embed_tokens.weight', 'model.final_layernorm.weight'),
      { hub: 'model.memory_tokens', own: 'stack.meta' },
      { hub: 'model.layers.{i}.input_layernorm.weight', own: 'stack.layers.{i}.norm1.weight' },
      { hub: 'model.layers.{i}.pre_moe_layernorm.weight', own: 'stack.layers.{i}.norm2.weight' },
      {
        hub: `${hub}.in_proj.weight`,
        own: [query, `${attention}.mixer.key.weight`, `${attention}.mixer.value.weight`, input],
        transform: chain(split([rows.query, rows.key, rows.value, rows.input]), transpose),
        layers: producers,
      },
      {
        hub: `${hub}.in_proj.weight`,
        own: [query, input],
        transform: chain(split([rows.query, rows.input]), transpose),
        layers: consumers,
      },
      { hub: `${hub}.conv1d.weight`, own: `${mamba}.mixer.convolution.weight`, transform: squeeze(1) },
      { hub: `${hub}.conv1d.bias`, own: `${mamba}.mixer.convolution.bias` },
      { hub: `${hub}.x_proj.0.weight`, own: `${mamba}.mixer.selection.weight`, transform: transpose },
      { hub: `${hub}.dt_layernorm.weight`, own: `${mamba}.mixer.stepNorm.weight` },
      { hub: `${hub}.B_layernorm.weight`, own: `${mamba}.mixer.inputNorm.weight` },
      { hub: `${hub}.C_layernorm.weight`, own: `${mamba}.mixer.outputNorm.weight` },
      { hub: `${hub}.dt_proj.0.weight`, own: `${mamba}.mixer.stepWeight`, transform: transpose },
      { hub: `${hub}.dt_proj.0.bias`, own: `${mamba}.mixer.stepBias` },
      { hub: `${hub}.A_log.0`, own: `${mamba}.mixer.transitionLog` },
      { hub: `${hub}.D.0`, own: `${mamba}.mixer.skip` },
      { hub: `${hub}.pre_avg_layernorm1.weight`, own: `${attention}.norm.weight` },
      { hub: `${hub}.pre_avg_layernorm2.weight`, own: `${mamba}.norm.weight` },
      { hub: `${hub}.out_proj.weight`, own: `${own}.output.weight`, transform: transpose },
      ...mlpRules('model.layers.{i}.moe.experts.0'),
    ];
    return {
      rules,
      tied: config.flag('tie_word_embeddings', false) ? [{ hub: 'lm_head.weight', of: 'model.embed_tokens.weight' }] : [],
      ignore: [/\.rotary_emb\.inv_freq$/],
      keepFloat32: [/\.A_log\.0$/, /\.D\.0$/, /\.dt_proj\.0\.bias$/, /norm[^.]*\.weight$/],
    };
  },
};

function readShape(config: ConfigReader): HymbaShape {
  const [dim, heads] = [config.count('hidden_size'), config.count('num_attention_heads')];
  const innerDim = config.number('mamba_expand', 2) * dim;
  const metaTokens = config.natural('num_memory_tokens', 0);
  for (const key of ['hidden_act', 'mlp_hidden_act']) config.choice(key, { silu: true }, 'silu');
  config.choice('kq_norm', { none: true }, 'none');
  for (const [key, wanted] of [
    ['num_experts', 1],
    ['num_mamba', 1],
    ['kv_reuse_every_i_layer', -1],
    ['memory_tokens_interspersed_every', 0],
  ] as const)
    if (config.number(key, wanted) !== wanted) config.refuse(key, String(wanted));
  for (const key of ['kv_weight_reuse', 'mamba_proj_bias']) if (config.flag(key, false)) config.refuse(key, 'false');
  // -1 leaves a width to what it follows from
  for (const [key, wanted] of [
    ['attn_hidden_size', dim],
    ['v_head_dim', innerDim / heads],
  ] as const) {
    const given = config.number(key, -1);
    if (given > 0 && given !== wanted) config.refuse(key, `-1 or ${wanted}`);
  }
  const kinds = config.config['layer_type'];
  if (Array.isArray(kinds) && kinds.some((kind) => kind !== 'h')) config.refuse('layer_type', '"h" for every layer');
  const keyDim = config.number('kq_head_dim', -1);
  return {
    vocabSize: config.count('vocab_size'),
    dim,
    depth: config.count('num_hidden_layers'),
    heads,
    kvHeads: config.count('num_key_value_heads', heads),
    headDim: keyDim > 0 ? config.count('kq_head_dim') : Math.floor(dim / heads),
    innerDim,
    hidden: config.count('intermediate_size'),
    metaTokens,
    // the original counts the tokens before the query
    window: config.count('sliding_window') + 1,
    globalLayers: config.naturals('global_attn_idx'),
    keyValueGroups: readGroups(config),
    stateDim: config.count('mamba_d_state', 16),
    kernelSize: config.count('mamba_d_conv', 4),
    stepRank: config.config['mamba_dt_rank'] === 'auto' ? Math.ceil(dim / 16) : config.count('mamba_dt_rank', Math.ceil(dim / 16)),
    convolutionBias: config.flag('mamba_conv_bias', true),
    selectionNorm: config.flag('mamba_inner_layernorms', true),
    rotary: readPositions(config),
    epsilon: config.number('rms_norm_eps', 1e-6),
    tied: config.flag('tie_word_embeddings', false),
  };
}

function readPositions(config: ConfigReader): NonNullable<HymbaShape['rotary']> | null {
  if (!config.flag('rope', true)) return null;
  const base = config.number('rope_theta', 10_000);
  if (config.choice('rope_type', { default: 'plain', ntk: 'ntk' }, 'default') === 'plain') return { base };
  const [originalLength, length] = [config.count('orig_max_position_embeddings'), config.count('max_position_embeddings')];
  if (length < originalLength) config.refuse('max_position_embeddings', `at least orig_max_position_embeddings, ${originalLength}`);
  return { base, scaling: { originalLength, length } };
}

function readGroups(config: ConfigReader): readonly (readonly number[])[] {
  if (!config.has('kv_reuse_group')) return [];
  const groups = config.config['kv_reuse_group'];
  const isGroup = (group: unknown): group is number[] =>
    Array.isArray(group) && group.every((layer) => Number.isInteger(layer) && layer >= 0);
  if (!Array.isArray(groups) || !groups.every(isGroup)) return config.refuse('kv_reuse_group', 'a list of lists of layers');
  // a layer by itself shares with nobody
  return groups.filter((group) => group.length > 1);
}
