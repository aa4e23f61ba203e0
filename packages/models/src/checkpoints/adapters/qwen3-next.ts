import type { CheckpointAdapter, Rule } from '../adapter.ts';
import type { ConfigReader } from '../config-reader.ts';
import { readRotary } from '../config-reader.ts';
import { chain, split, squeeze, transpose, unGroup } from '../transform.ts';
import { expertRules } from './experts.ts';
import { attentionRules, mlpRules, outerRules } from './llama.ts';
import { onLayers, usedDefinitions } from './on-layers.ts';

const LINEAR = 'linear_attention';
const FULL = 'full_attention';

interface Layers {
  /** per layer */
  readonly mixers: readonly ('linear' | 'attention')[];
  readonly channels: readonly ('experts' | 'mlp')[];
}

function layerKinds(config: ConfigReader): Layers {
  const depth = config.count('num_hidden_layers');
  const interval = config.count('full_attention_interval', 4);
  const types = config.has('layer_types')
    ? config.words('layer_types', [LINEAR, FULL])
    : Array.from({ length: depth }, (_, layer) => ((layer + 1) % interval === 0 ? FULL : LINEAR));
  if (types.length !== depth) config.refuse('layer_types', `a list of ${depth} layers`);
  const dense = config.naturals('mlp_only_layers', []);
  const step = config.count('decoder_sparse_step', 1);
  const sparse = (layer: number): boolean => config.natural('num_experts', 512) > 0 && !dense.includes(layer) && (layer + 1) % step === 0;
  return {
    mixers: types.map((type) => (type === LINEAR ? 'linear' : 'attention')),
    channels: types.map((_, layer) => (sparse(layer) ? 'experts' : 'mlp')),
  };
}

/** Sizes of the gated DeltaNet layers. */
function linearSizes(config: ConfigReader): { dim: number; heads: number; valueHeads: number; headDim: number; valueDim: number } {
  return {
    dim: config.count('hidden_size'),
    heads: config.count('linear_num_key_heads', 16),
    valueHeads: config.count('linear_num_value_heads', 32),
    headDim: config.count('linear_key_head_dim', 128),
    valueDim: config.count('linear_value_head_dim', 128),
  };
}

/**
 * Qwen3-Next: gated DeltaNet, gated softmax attention in every fourth layer, experts with a gated shared one, norms counted from 1.
 *
 * The module for predicting several tokens at once (`mtp.*`) is left out, as the transformers library leaves it out.
 *
 * @see modeling_qwen3_next.py of the transformers library
 */
export const qwen3Next: CheckpointAdapter = {
  id: 'qwen3_next',
  modelTypes: ['qwen3_next'],
  keys: [
    'linear_num_value_heads',
    'linear_num_key_heads',
    'linear_key_head_dim',
    'linear_value_head_dim',
    'linear_conv_kernel_dim',
    'shared_expert_intermediate_size',
    'moe_intermediate_size',
    'num_experts',
    'partial_rotary_factor',
  ],
  toHybrid(config) {
    const [{ dim, ...linear }, heads] = [linearSizes(config), config.count('num_attention_heads')];
    const headDim = config.count('head_dim', 256);
    const epsilon = config.number('rms_norm_eps', 1e-6);
    const activation = config.choice('hidden_act', { silu: 'silu' }, 'silu');
    if (config.flag('attention_bias', false)) config.refuse('attention_bias', 'false');
    const { mixers, channels } = layerKinds(config);
    const definitions = {
      linear: { type: 'gated-delta-net', ...linear, kernelSize: config.count('linear_conv_kernel_dim', 4), epsilon },
      attention: {
        type: 'mha-mqa-gqa',
        heads,
        kvHeads: config.count('num_key_value_heads', heads),
        headDim,
        rotary: readRotary(config, Math.floor(headDim * config.number('partial_rotary_factor', 0.25))),
        qkNorm: 'zero-centered',
        normEpsilon: epsilon,
        outputGate: true,
      },
      mlp: { type: 'mlp', hidden: config.count('intermediate_size'), activation },
      experts: {
        type: 'moe-channel-mixers',
        experts: config.count('num_experts', 512),
        topK: config.count('num_experts_per_tok', 10),
        hidden: config.count('moe_intermediate_size'),
        shared: { hidden: config.count('shared_expert_intermediate_size'), gate: true },
        renormalise: config.flag('norm_topk_prob', true),
        activation,
      },
    };
    return {
      vocabSize: config.count('vocab_size'),
      dim,
      mixers: [...mixers],
      channels: [...channels],
      definitions: usedDefinitions(definitions, mixers, channels),
      norm: { epsilon, zeroCentered: true },
      tieEmbeddings: config.flag('tie_word_embeddings', false),
    };
  },
  mapping(config) {
    const { mixers, channels } = layerKinds(config);
    const layers = 'model.layers.{i}';
    return {
      rules: [
        ...outerRules('model.embed_tokens.weight', 'model.norm.weight'),
        { hub: `${layers}.input_layernorm.weight`, own: 'stack.layers.{i}.norm1.weight' },
        { hub: `${layers}.post_attention_layernorm.weight`, own: 'stack.layers.{i}.norm2.weight' },
        ...onLayers(mixers, 'attention', gatedAttentionRules(config)),
        ...onLayers(mixers, 'linear', deltaRules(config)),
        ...onLayers(channels, 'mlp', mlpRules()),
        ...onLayers(channels, 'experts', [
          ...expertRules(`${layers}.mlp`, config.natural('num_experts', 512)),
          ...mlpRules(`${layers}.mlp.shared_expert`, 'stack.layers.{i}.channel.shared'),
          { hub: `${layers}.mlp.shared_expert_gate.weight`, own: 'stack.layers.{i}.channel.sharedGate.weight', transform: transpose },
        ]),
      ],
      tied: config.flag('tie_word_embeddings', false) ? [{ hub: 'lm_head.weight', of: 'model.embed_tokens.weight' }] : [],
      ignore: [/^mtp\./, /\.rotary_emb\.inv_freq$/],
      keepFloat32: [/norm\.weight$/, /A_log$/, /dt_bias$/, /mlp\.gate\.weight$/],
    };
  },
};

/** Softmax attention whose query projection holds [query | gate] head by head. */
function gatedAttentionRules(config: ConfigReader): Rule[] {
  const [dim, heads, headDim] = [config.count('hidden_size'), config.count('num_attention_heads'), config.count('head_dim', 256)];
  const [hub, own] = ['model.layers.{i}.self_attn', 'stack.layers.{i}.mixer'];
  return [
    {
      hub: `${hub}.q_proj.weight`,
      own: [`${own}.query.weight`, `${own}.gate.weight`],
      transform: chain(unGroup(heads, [headDim, headDim], dim), transpose),
    },
    ...attentionRules(hub, own).filter(({ hub: name }) => !String(name).includes('.q_proj.')),
    { hub: `${hub}.q_norm.weight`, own: `${own}.queryNorm.weight` },
    { hub: `${hub}.k_norm.weight`, own: `${own}.keyNorm.weight` },
  ];
}

/** Gated DeltaNet: projections lie grouped by key head, one convolution runs over queries, keys and values. */
function deltaRules(config: ConfigReader): Rule[] {
  const { dim, heads, valueHeads, headDim, valueDim } = linearSizes(config);
  const perHead = valueHeads / heads;
  const [hub, own] = ['model.layers.{i}.linear_attn', 'stack.layers.{i}.mixer'];
  const convolved = [heads * headDim, heads * headDim, valueHeads * valueDim];
  return [
    {
      hub: `${hub}.in_proj_qkvz.weight`,
      own: ['query', 'key', 'value', 'gate'].map((part) => `${own}.${part}.weight`),
      transform: chain(unGroup(heads, [headDim, headDim, perHead * valueDim, perHead * valueDim], dim), transpose),
    },
    {
      hub: `${hub}.in_proj_ba.weight`,
      own: ['beta', 'decay'].map((part) => `${own}.${part}.weight`),
      transform: chain(unGroup(heads, [perHead, perHead], dim), transpose),
    },
    {
      hub: `${hub}.conv1d.weight`,
      own: ['query', 'key', 'value'].map((part) => `${own}.${part}Convolution.weight`),
      transform: chain(squeeze(1), split(convolved)),
    },
    { hub: `${hub}.A_log`, own: `${own}.logRate` },
    { hub: `${hub}.dt_bias`, own: `${own}.stepBias` },
    { hub: `${hub}.norm.weight`, own: `${own}.norm.weight` },
    { hub: `${hub}.out_proj.weight`, own: `${own}.output.weight`, transform: transpose },
  ];
}
