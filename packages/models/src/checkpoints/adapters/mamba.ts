import type { CheckpointAdapter, Rule } from '../adapter.ts';
import type { ConfigReader } from '../config-reader.ts';
import { squeeze, transpose } from '../transform.ts';
import { outerRules } from './llama.ts';

/** Rules of a Mamba block. */
export function mambaRules(hub: string, own = 'stack.layers.{i}.mixer'): Rule[] {
  return [
    { hub: `${hub}.in_proj.weight`, own: `${own}.input.weight`, transform: transpose },
    { hub: `${hub}.in_proj.bias`, own: `${own}.input.bias` },
    { hub: `${hub}.conv1d.weight`, own: `${own}.convolution.weight`, transform: squeeze(1) },
    { hub: `${hub}.conv1d.bias`, own: `${own}.convolution.bias` },
    { hub: `${hub}.x_proj.weight`, own: `${own}.selection.weight`, transform: transpose },
    { hub: `${hub}.dt_proj.weight`, own: `${own}.stepWeight`, transform: transpose },
    { hub: `${hub}.dt_proj.bias`, own: `${own}.stepBias` },
    { hub: `${hub}.A_log`, own: `${own}.transitionLog` },
    { hub: `${hub}.D`, own: `${own}.skip` },
    { hub: `${hub}.out_proj.weight`, own: `${own}.output.weight`, transform: transpose },
    { hub: `${hub}.out_proj.bias`, own: `${own}.output.bias` },
  ];
}

/** Tensors of state spaces that a narrower type would harm. */
export const STATE_SPACE_FLOAT32 = [/A_log$/, /\.D$/, /dt_bias$/, /dt_proj\.bias$/, /norm[^.]*\.weight$/];

/** Config keys of both Mamba families. */
export const MAMBA_KEYS = [
  'vocab_size',
  'hidden_size',
  'num_hidden_layers',
  'state_size',
  'conv_kernel',
  'expand',
  'use_bias',
  'use_conv_bias',
  'layer_norm_epsilon',
  'residual_in_fp32',
  'hidden_act',
  'tie_word_embeddings',
];

/** The activation of the convolution and the gate, which the layers have fixed. */
export function checkMambaActivation(config: ConfigReader): void {
  config.choice('hidden_act', { silu: true, swish: true }, 'silu');
}

/**
 * Mamba language models.
 *
 * @see modeling_mamba.py of the transformers library
 */
export const mamba: CheckpointAdapter = {
  id: 'mamba',
  modelTypes: ['mamba'],
  keys: [...MAMBA_KEYS, 'time_step_rank', 'intermediate_size'],
  toHybrid(config) {
    checkMambaActivation(config);
    const dim = config.count('hidden_size');
    return {
      vocabSize: config.count('vocab_size'),
      dim,
      depth: config.count('num_hidden_layers'),
      mixers: 'mamba',
      channels: 'none',
      definitions: {
        mamba: {
          type: 'mamba-s6',
          innerDim: config.count('intermediate_size', config.count('expand', 2) * dim),
          stateDim: config.count('state_size', 16),
          kernelSize: config.count('conv_kernel', 4),
          stepRank: config.config['time_step_rank'] === 'auto' ? Math.ceil(dim / 16) : config.count('time_step_rank', Math.ceil(dim / 16)),
          bias: config.flag('use_bias', false),
          convolutionBias: config.flag('use_conv_bias', true),
        },
      },
      norm: { epsilon: config.number('layer_norm_epsilon', 1e-5) },
      tieEmbeddings: config.flag('tie_word_embeddings', true),
    };
  },
  mapping: (config) => ({
    rules: [
      ...outerRules('backbone.embeddings.weight', 'backbone.norm_f.weight'),
      { hub: 'backbone.layers.{i}.norm.weight', own: 'stack.layers.{i}.norm1.weight' },
      ...mambaRules('backbone.layers.{i}.mixer'),
    ],
    tied: config.flag('tie_word_embeddings', true) ? [{ hub: 'lm_head.weight', of: 'backbone.embeddings.weight' }] : [],
    keepFloat32: STATE_SPACE_FLOAT32,
  }),
};
