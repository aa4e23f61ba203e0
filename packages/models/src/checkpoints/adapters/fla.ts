import type { HybridConfig } from '../../config.ts';
import type { CheckpointAdapter, Rule } from '../adapter.ts';
import type { ConfigReader } from '../config-reader.ts';
import { squeeze, transpose } from '../transform.ts';
import { mlpRules, outerRules } from './llama.ts';

/** Config keys that all models of the flash-linear-attention library have. */
const SHARED_KEYS = [
  'vocab_size',
  'hidden_size',
  'hidden_ratio',
  'num_hidden_layers',
  'num_heads',
  'norm_eps',
  'expand_v',
  'use_short_conv',
  'conv_size',
];

const [HUB, OWN] = ['model.layers.{i}.attn', 'stack.layers.{i}.mixer'];

/** A language model of the library around one mixer: norms, a gated feed-forward layer, an untied head. */
function flaModel(
  config: ConfigReader,
  defaults: { readonly heads: number; readonly layers: number },
  mixer: Record<string, unknown>,
): HybridConfig {
  const dim = config.count('hidden_size', 2048);
  if (config.has('attn')) config.refuse('attn', 'null', 'Stacks with softmax attention among their layers are not supported.');
  if (config.has('num_kv_heads') && config.count('num_kv_heads') !== config.count('num_heads', defaults.heads))
    config.refuse('num_kv_heads', 'null');
  // the width of SwiGLU that has the parameters of hidden_ratio, in multiples of 256
  const wanted = Math.floor((dim * config.number('hidden_ratio', 4) * 2) / 3);
  return {
    vocabSize: config.count('vocab_size', 32_000),
    dim,
    depth: config.count('num_hidden_layers', defaults.layers),
    mixers: 'mixer',
    channels: 'mlp',
    definitions: {
      mixer: { epsilon: config.number('norm_eps', 1e-6), ...mixer } as unknown as { type: string },
      mlp: {
        type: 'mlp',
        hidden: config.count('intermediate_size', 256 * Math.ceil(wanted / 256)),
        activation: config.choice('hidden_act', { swish: 'silu', silu: 'silu' }, 'swish'),
      },
    },
    norm: { epsilon: config.number('norm_eps', 1e-6) },
    tieEmbeddings: config.flag('tie_word_embeddings', false),
  };
}

function flaAdapter(
  id: string,
  modelType: string,
  keys: readonly string[],
  toHybrid: (config: ConfigReader) => HybridConfig,
  rules: readonly Rule[],
): CheckpointAdapter {
  return {
    id,
    modelTypes: [modelType],
    keys: [...SHARED_KEYS, ...keys],
    toHybrid,
    mapping: (config) => ({
      rules: [
        ...outerRules('model.embeddings.weight', 'model.norm.weight'),
        { hub: 'model.layers.{i}.attn_norm.weight', own: 'stack.layers.{i}.norm1.weight' },
        { hub: 'model.layers.{i}.mlp_norm.weight', own: 'stack.layers.{i}.norm2.weight' },
        ...mlpRules(),
        ...[
          ['q_proj', 'query'],
          ['k_proj', 'key'],
          ['v_proj', 'value'],
          ['o_proj', 'output'],
        ].map(([theirs, ours]) => ({ hub: `${HUB}.${theirs}.weight`, own: `${OWN}.${ours}.weight`, transform: transpose })),
        ...[
          ['q', 'query'],
          ['k', 'key'],
          ['v', 'value'],
        ].flatMap(([theirs, ours]) => [
          { hub: `${HUB}.${theirs}_conv1d.weight`, own: `${OWN}.${ours}Convolution.weight`, transform: squeeze(1) },
          { hub: `${HUB}.${theirs}_conv1d.bias`, own: `${OWN}.${ours}Convolution.bias` },
        ]),
        ...rules,
      ],
      tied: config.flag('tie_word_embeddings', false) ? [{ hub: 'lm_head.weight', of: 'model.embeddings.weight' }] : [],
      keepFloat32: [/norm\.weight$/, /A_log$/, /dt_bias$/, /norm_swish_gate\.weight$/],
    }),
  };
}

/** Width of a head from the factor that a config has in its place. */
function expanded(config: ConfigReader, factor: string, fallback: number, heads: number): number {
  const width = (config.count('hidden_size', 2048) * config.number(factor, fallback)) / heads;
  return Number.isInteger(width) && width > 0 ? width : config.refuse(factor, `a factor that gives ${heads} heads of whole width`);
}

const beta: Rule = { hub: `${HUB}.b_proj.weight`, own: `${OWN}.beta.weight`, transform: transpose };
const norm: Rule = { hub: `${HUB}.o_norm.weight`, own: `${OWN}.norm.weight` };
const gate: Rule = { hub: `${HUB}.g_proj.weight`, own: `${OWN}.gate.weight`, transform: transpose };
const rates: readonly Rule[] = [
  { hub: `${HUB}.A_log`, own: `${OWN}.logRate` },
  { hub: `${HUB}.dt_bias`, own: `${OWN}.stepBias` },
];

/**
 * Gated linear attention of the flash-linear-attention library.
 *
 * @see fla/models/gla; Yang et al. 2023, arXiv 2312.06635
 */
export const flaGla = flaAdapter(
  'fla_gla',
  'gla',
  ['expand_k', 'gate_logit_normalizer', 'gate_low_rank_dim', 'use_output_gate', 'clamp_min', 'feature_map'],
  (config) => {
    const heads = config.count('num_heads', 4);
    if (config.has('feature_map')) config.refuse('feature_map', 'null');
    if (!config.flag('use_gk', true)) config.refuse('use_gk', 'true');
    if (config.flag('use_gv', false)) config.refuse('use_gv', 'false');
    return flaModel(
      config,
      { heads, layers: 24 },
      {
        type: 'gated-linear-attention',
        heads,
        headDim: expanded(config, 'expand_k', 0.5, heads),
        valueDim: expanded(config, 'expand_v', 1, heads),
        gateRank: config.count('gate_low_rank_dim', 16),
        gateNormaliser: config.number('gate_logit_normalizer', 16),
        outputGate: config.flag('use_output_gate', true),
        shortConvolution: config.flag('use_short_conv', false),
        kernelSize: config.count('conv_size', 4),
        ...(config.has('clamp_min') ? { minimumLogDecay: config.number('clamp_min') } : {}),
      },
    );
  },
  [
    gate,
    { hub: `${HUB}.gk_proj.0.weight`, own: `${OWN}.forgetDown.weight`, transform: transpose },
    { hub: `${HUB}.gk_proj.1.weight`, own: `${OWN}.forgetUp.weight`, transform: transpose },
    { hub: `${HUB}.gk_proj.1.bias`, own: `${OWN}.forgetUp.bias` },
    { hub: `${HUB}.g_norm_swish_gate.weight`, own: `${OWN}.norm.weight` },
  ],
);

/**
 * DeltaNet of the flash-linear-attention library.
 *
 * @see fla/models/delta_net; Yang et al. 2024, arXiv 2406.06484
 */
export const flaDeltaNet = flaAdapter(
  'fla_delta_net',
  'delta_net',
  ['expand_k', 'use_gate', 'use_beta', 'qk_norm', 'qk_activation'],
  (config) => {
    const heads = config.count('num_heads', 16);
    return flaModel(
      config,
      { heads, layers: 24 },
      {
        type: 'delta-net',
        heads,
        headDim: expanded(config, 'expand_k', 1, heads),
        valueDim: expanded(config, 'expand_v', 1, heads),
        kernelSize: config.flag('use_short_conv', true) ? config.count('conv_size', 4) : 0,
        activation: config.choice('qk_activation', { silu: 'silu', relu: 'relu', elu: 'elu1', identity: 'identity' }, 'silu'),
        normalise: config.choice('qk_norm', { l2: 'length', sum: 'sum' }, 'l2'),
        learnedBeta: config.flag('use_beta', true),
        outputGate: config.flag('use_gate', false),
        negativeEigenvalues: config.flag('allow_neg_eigval', false),
      },
    );
  },
  [beta, gate, norm],
);

/**
 * Gated DeltaNet of the flash-linear-attention library.
 *
 * @see fla/models/gated_deltanet; Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464
 */
export const flaGatedDeltaNet = flaAdapter(
  'fla_gated_deltanet',
  'gated_deltanet',
  ['head_dim', 'num_v_heads', 'use_gate', 'allow_neg_eigval'],
  (config) => {
    const [heads, headDim] = [config.count('num_heads', 6), config.count('head_dim', 256)];
    return flaModel(
      config,
      { heads, layers: 21 },
      {
        type: 'gated-delta-net',
        heads,
        headDim,
        valueHeads: config.count('num_v_heads', heads),
        valueDim: Math.floor(headDim * config.number('expand_v', 2)),
        kernelSize: config.flag('use_short_conv', true) ? config.count('conv_size', 4) : 0,
        outputGate: config.flag('use_gate', true),
        negativeEigenvalues: config.flag('allow_neg_eigval', false),
      },
    );
  },
  [beta, gate, norm, ...rates, { hub: `${HUB}.a_proj.weight`, own: `${OWN}.decay.weight`, transform: transpose }],
);

/**
 * Kimi Delta Attention of the flash-linear-attention library, in a plain stack.
 *
 * @see fla/models/kda; Kimi Team 2025, arXiv 2510.26692
 */
export const flaKda = flaAdapter(
  'fla_kda',
  'kda',
  ['head_dim', 'num_v_heads', 'allow_neg_eigval', 'safe_gate', 'lower_bound'],
  (config) => {
    const [heads, headDim] = [config.count('num_heads', 16), config.count('head_dim', 128)];
    return flaModel(
      config,
      { heads, layers: 24 },
      {
        type: 'kimi-delta-attention',
        heads,
        headDim,
        valueHeads: config.count('num_v_heads', heads),
        valueDim: Math.floor(headDim * config.number('expand_v', 1)),
        kernelSize: config.flag('use_short_conv', true) ? config.count('conv_size', 4) : 0,
        negativeEigenvalues: config.flag('allow_neg_eigval', false),
        ...(config.flag('safe_gate', false) ? { lowestLogDecay: config.number('lower_bound', -5) } : {}),
      },
    );
  },
  [
    beta,
    norm,
    ...rates,
    ...['0', '1'].flatMap((at) => {
      const end = at === '0' ? 'Down' : 'Up';
      return [
        { hub: `${HUB}.f_proj.${at}.weight`, own: `${OWN}.decay${end}.weight`, transform: transpose },
        { hub: `${HUB}.g_proj.${at}.weight`, own: `${OWN}.gate${end}.weight`, transform: transpose },
        { hub: `${HUB}.g_proj.${at}.bias`, own: `${OWN}.gate${end}.bias` },
      ];
    }),
  ],
);
