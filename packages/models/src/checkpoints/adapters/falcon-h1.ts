import { falconH1 as architecture } from '../../published/falcon-h1.ts';
import type { CheckpointAdapter } from '../adapter.ts';
import type { ConfigReader } from '../config-reader.ts';
import { readRotary } from '../config-reader.ts';
import { attentionRules, mlpRules, outerRules } from './llama.ts';
import { STATE_SPACE_FLOAT32 } from './mamba.ts';
import { mamba2Rules } from './mamba2.ts';

/**
 * Falcon-H1.
 *
 * @see modeling_falcon_h1.py of the transformers library
 */
export const falconH1: CheckpointAdapter = {
  id: 'falcon-h1',
  modelTypes: ['falcon_h1'],
  keys: [
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
    'head_dim',
    'mamba_d_ssm',
    'mamba_n_heads',
    'mamba_d_head',
    'mamba_n_groups',
    'mamba_d_state',
    'mamba_rms_norm',
    'ssm_multipliers',
    'mlp_multipliers',
    'key_multiplier',
    'rope_theta',
    'tie_word_embeddings',
  ],
  toHybrid(config) {
    const [dim, heads] = [config.count('hidden_size'), config.count('num_attention_heads')];
    const innerDim = config.has('mamba_d_ssm') ? config.count('mamba_d_ssm') : config.number('mamba_expand', 2) * dim;
    const mambaHeads = config.count('mamba_n_heads', 128);
    const mambaHeadDim =
      (config.config['mamba_d_head'] ?? 'auto') === 'auto' ? Math.floor(innerDim / mambaHeads) : config.count('mamba_d_head');
    if (mambaHeads * mambaHeadDim !== innerDim) config.refuse('mamba_n_heads', `${innerDim / mambaHeadDim}, mamba_d_ssm / mamba_d_head`);
    config.choice('hidden_act', { silu: true }, 'silu');
    if (!config.flag('mamba_use_mlp', true)) config.refuse('mamba_use_mlp', 'true');
    if (config.has('attn_layer_indices')) config.refuse('attn_layer_indices', 'absent');
    const bias = config.flag('mamba_proj_bias', false);
    if (config.flag('projectors_bias', bias) !== bias) config.refuse('projectors_bias', `${bias}, as mamba_proj_bias`);
    const [mlpGate, mlpOutput] = factors(config, 'mlp_multipliers', 2) as [number, number];
    return architecture.config({
      vocabSize: config.count('vocab_size'),
      dim,
      depth: config.count('num_hidden_layers'),
      heads,
      kvHeads: config.count('num_key_value_heads', heads),
      headDim: config.count('head_dim', Math.floor(dim / heads)),
      innerDim,
      mambaHeadDim,
      stateDim: config.count('mamba_d_state', 256),
      groups: config.count('mamba_n_groups', 1),
      kernelSize: config.count('mamba_d_conv', 4),
      hidden: config.count('intermediate_size'),
      mambaNorm: config.flag('mamba_rms_norm', false) ? (config.flag('mamba_norm_before_gate', true) ? 'before-gate' : 'after-gate') : null,
      bias: {
        attention: config.flag('attention_bias', false),
        mamba: bias,
        mlp: config.flag('mlp_bias', false),
        convolution: config.flag('mamba_conv_bias', true),
      },
      steps: stepLimits(config),
      rotary: readRotary(config) as { readonly base: number },
      multipliers: {
        embedding: factor(config, 'embedding_multiplier'),
        logits: factor(config, 'lm_head_multiplier'),
        attentionInput: factor(config, 'attention_in_multiplier'),
        attentionOutput: factor(config, 'attention_out_multiplier'),
        key: factor(config, 'key_multiplier'),
        mambaInput: factor(config, 'ssm_in_multiplier'),
        mambaOutput: factor(config, 'ssm_out_multiplier'),
        mambaParts: factors(config, 'ssm_multipliers', 5) as [number, number, number, number, number],
        mlpGate,
        mlpOutput,
      },
      epsilon: config.number('rms_norm_eps', 1e-5),
      tied: config.flag('tie_word_embeddings', false),
    });
  },
  mapping: (config) => ({
    rules: [
      ...outerRules('model.embed_tokens.weight', 'model.final_layernorm.weight'),
      { hub: 'model.layers.{i}.input_layernorm.weight', own: 'stack.layers.{i}.norm1.weight' },
      { hub: 'model.layers.{i}.pre_ff_layernorm.weight', own: 'stack.layers.{i}.norm2.weight' },
      ...attentionRules('model.layers.{i}.self_attn', 'stack.layers.{i}.mixer.branches.0.mixer'),
      ...mamba2Rules('model.layers.{i}.mamba', 'stack.layers.{i}.mixer.branches.1.mixer'),
      ...mlpRules('model.layers.{i}.feed_forward'),
    ],
    tied: config.flag('tie_word_embeddings', false) ? [{ hub: 'lm_head.weight', of: 'model.embed_tokens.weight' }] : [],
    ignore: [/\.rotary_emb\.inv_freq$/, /\.mup_vector$/],
    keepFloat32: STATE_SPACE_FLOAT32,
  }),
};

function factor(config: ConfigReader, key: string): number {
  const value = config.number(key, 1);
  return value > 0 ? value : config.refuse(key, 'above 0');
}

function factors(config: ConfigReader, key: string, count: number): readonly number[] {
  const values = config.config[key] ?? Array.from({ length: count }, () => 1);
  const fits = Array.isArray(values) && values.length === count && values.every((value) => Number.isFinite(value) && value > 0);
  return fits ? (values as number[]) : config.refuse(key, `${count} numbers above 0`);
}

// an upper limit of infinity is none
function stepLimits(config: ConfigReader): { readonly leastStep?: number; readonly mostStep?: number } {
  const limits = config.config['time_step_limit'] ?? [0, Infinity];
  if (!Array.isArray(limits) || limits.length !== 2 || typeof limits[0] !== 'number')
    return config.refuse('time_step_limit', 'two numbers');
  const [leastStep, mostStep] = limits as [number, unknown];
  const least = leastStep > 0 ? { leastStep } : {};
  if (typeof mostStep === 'number' && Number.isFinite(mostStep)) return { ...least, mostStep };
  return [null, 'inf', 'Infinity', Infinity].includes(mostStep as never) ? least : config.refuse('time_step_limit', 'two numbers');
}
