import type { CheckpointAdapter, Rule } from '../adapter.ts';
import { squeeze, transpose } from '../transform.ts';
import { outerRules } from './llama.ts';
import { checkMambaActivation, MAMBA_KEYS, STATE_SPACE_FLOAT32 } from './mamba.ts';

/** Rules of a Mamba-2 block. */
export function mamba2Rules(hub: string, own = 'stack.layers.{i}.mixer'): Rule[] {
  return [
    { hub: `${hub}.in_proj.weight`, own: `${own}.input.weight`, transform: transpose },
    { hub: `${hub}.in_proj.bias`, own: `${own}.input.bias` },
    { hub: `${hub}.conv1d.weight`, own: `${own}.convolution.weight`, transform: squeeze(1) },
    { hub: `${hub}.conv1d.bias`, own: `${own}.convolution.bias` },
    { hub: `${hub}.dt_bias`, own: `${own}.stepBias` },
    { hub: `${hub}.A_log`, own: `${own}.transitionLog` },
    { hub: `${hub}.D`, own: `${own}.skip` },
    { hub: `${hub}.norm.weight`, own: `${own}.norm.weight` },
    { hub: `${hub}.out_proj.weight`, own: `${own}.output.weight`, transform: transpose },
    { hub: `${hub}.out_proj.bias`, own: `${own}.output.bias` },
  ];
}

/**
 * Mamba-2 language models.
 *
 * @see modeling_mamba2.py of the transformers library
 */
export const mamba2: CheckpointAdapter = {
  id: 'mamba2',
  modelTypes: ['mamba2'],
  keys: [...MAMBA_KEYS, 'num_heads', 'head_dim', 'n_groups', 'chunk_size', 'rms_norm', 'time_step_limit'],
  toHybrid(config) {
    checkMambaActivation(config);
    const [dim, heads, headDim] = [config.count('hidden_size'), config.count('num_heads', 128), config.count('head_dim', 64)];
    const expanded = config.number('expand', 2) * dim;
    if (heads * headDim !== expanded) config.refuse('num_heads', `${expanded / headDim}, which is expand * hidden_size / head_dim`);
    if (!config.flag('rms_norm', true)) config.refuse('rms_norm', 'true');
    return {
      vocabSize: config.count('vocab_size'),
      dim,
      depth: config.count('num_hidden_layers'),
      mixers: 'mamba2',
      channels: 'none',
      definitions: {
        mamba2: {
          type: 'mamba2-ssd',
          innerDim: expanded,
          headDim,
          stateDim: config.count('state_size', 128),
          groups: config.count('n_groups', 8),
          normGroups: 1,
          kernelSize: config.count('conv_kernel', 4),
          bias: config.flag('use_bias', false),
          convolutionBias: config.flag('use_conv_bias', true),
          epsilon: config.number('layer_norm_epsilon', 1e-5),
          chunkSize: config.count('chunk_size', 256),
          ...stepLimits(config.config['time_step_limit'], () => config.refuse('time_step_limit', 'two numbers')),
        },
      },
      norm: { epsilon: config.number('layer_norm_epsilon', 1e-5) },
      tieEmbeddings: config.flag('tie_word_embeddings', false),
    };
  },
  mapping: (config) => ({
    rules: [
      ...outerRules('backbone.embeddings.weight', 'backbone.norm_f.weight'),
      { hub: 'backbone.layers.{i}.norm.weight', own: 'stack.layers.{i}.norm1.weight' },
      ...mamba2Rules('backbone.layers.{i}.mixer'),
    ],
    tied: config.flag('tie_word_embeddings', false) ? [{ hub: 'lm_head.weight', of: 'backbone.embeddings.weight' }] : [],
    keepFloat32: STATE_SPACE_FLOAT32,
  }),
};

// JSON has no infinity: Python writes the word, which JSON.parse refuses, or the pair is left out
function stepLimits(limit: unknown, refuse: () => never): { leastStep?: number; mostStep?: number } {
  if (limit === undefined || limit === null) return {};
  if (!Array.isArray(limit) || limit.length !== 2 || typeof limit[0] !== 'number') return refuse();
  const [least, most] = limit as [number, unknown];
  if (most === null || most === 'inf' || most === 'Infinity' || most === Infinity) return { leastStep: least };
  return typeof most === 'number' ? { leastStep: least, mostStep: most } : refuse();
}
