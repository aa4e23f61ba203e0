import type { CheckpointAdapter } from '../adapter.ts';
import { ConfigReader, readRotary } from '../config-reader.ts';
import { transpose } from '../transform.ts';
import { expertRules } from './experts.ts';
import { mlpRules, outerRules } from './llama.ts';
import { onLayers, usedDefinitions } from './on-layers.ts';

function channelKinds(config: ConfigReader): string[] {
  const [dense, step] = [config.natural('first_k_dense_replace', 3), config.count('moe_layer_freq', 1)];
  return Array.from({ length: config.count('num_hidden_layers') }, (_, layer) =>
    layer >= dense && layer % step === 0 ? 'experts' : 'mlp',
  );
}

/** Rotary positions; YaRN's magnitude acts on the scale of the scores, squared, as `mscale_all_dim` has it. */
function rotaryOf(config: ConfigReader): Readonly<Record<string, unknown>> {
  const interleaved = config.flag('rope_interleave', true);
  const key = config.has('rope_parameters') ? 'rope_parameters' : 'rope_scaling';
  const scaling = config.part(key);
  const scale = scaling?.has('mscale_all_dim') ? scaling.number('mscale_all_dim') : 0;
  if (!scaling || !(scaling.has('mscale') || scale !== 0)) return { ...readRotary(config), interleaved };
  // cosines and sines have the quotient of both, which is one
  if (scaling.number('mscale', 1) !== scale) scaling.refuse('mscale', `equal to mscale_all_dim = ${scale}`);
  const { mscale: _one, mscale_all_dim: _other, ...rest } = scaling.config;
  const plain = readRotary(new ConfigReader({ ...config.config, [key]: rest }, config.label));
  const yarn = plain['scaling'] as { readonly type: string; readonly factor: number };
  if (yarn.type !== 'yarn') scaling.refuse('mscale', 'absent', 'It belongs to YaRN.');
  const magnitude = yarn.factor > 1 ? 0.1 * scale * Math.log(yarn.factor) + 1 : 1;
  return { ...plain, interleaved, scaling: { ...yarn, magnitude } };
}

/**
 * DeepSeek-V3 and R1: latent attention, and experts chosen by groups with a bias. Their released weights are FP8, which is not supported:
 * load a BF16 conversion.
 *
 * @see modeling_deepseek_v3.py of the transformers library; DeepSeek-AI 2024, arXiv 2412.19437
 */
export const deepseekV3: CheckpointAdapter = {
  id: 'deepseek_v3',
  modelTypes: ['deepseek_v3'],
  keys: [
    'kv_lora_rank',
    'q_lora_rank',
    'qk_rope_head_dim',
    'qk_nope_head_dim',
    'v_head_dim',
    'n_routed_experts',
    'n_shared_experts',
    'n_group',
    'topk_group',
    'first_k_dense_replace',
    'routed_scaling_factor',
  ],
  toHybrid(config) {
    const activation = config.choice('hidden_act', { silu: 'silu' }, 'silu');
    if (config.flag('attention_bias', false)) config.refuse('attention_bias', 'false');
    config.choice('scoring_func', { sigmoid: true }, 'sigmoid');
    config.choice('topk_method', { noaux_tc: true }, 'noaux_tc');
    const expertHidden = config.count('moe_intermediate_size');
    const shared = config.natural('n_shared_experts', 1) * expertHidden;
    const epsilon = config.number('rms_norm_eps', 1e-6);
    const channels = channelKinds(config);
    const definitions = {
      attention: {
        type: 'multi-head-latent-attention',
        heads: config.count('num_attention_heads'),
        latentDim: config.count('kv_lora_rank'),
        queryLatentDim: config.has('q_lora_rank') ? config.count('q_lora_rank') : null,
        contentDim: config.count('qk_nope_head_dim'),
        rotaryDim: config.count('qk_rope_head_dim'),
        valueHeadDim: config.count('v_head_dim'),
        rotary: rotaryOf(config),
      },
      mlp: { type: 'mlp', hidden: config.count('intermediate_size'), activation },
      experts: {
        type: 'moe-channel-mixers',
        experts: config.count('n_routed_experts'),
        topK: config.count('num_experts_per_tok'),
        hidden: expertHidden,
        score: 'sigmoid',
        selectionBias: true,
        groups: config.count('n_group', 1),
        groupTopK: config.count('topk_group', 1),
        renormalise: config.flag('norm_topk_prob', true),
        scale: config.number('routed_scaling_factor', 1),
        shared: shared > 0 ? { hidden: shared } : null,
        activation,
      },
    };
    return {
      vocabSize: config.count('vocab_size'),
      dim: config.count('hidden_size'),
      mixers: channels.map(() => 'attention'),
      channels,
      definitions: usedDefinitions(definitions, ['attention'], channels),
      norm: { epsilon },
      tieEmbeddings: config.flag('tie_word_embeddings', false),
    };
  },
  mapping(config) {
    const channels = channelKinds(config);
    const [attention, mixer] = ['model.layers.{i}.self_attn', 'stack.layers.{i}.mixer'];
    const matrices = {
      q_proj: 'query',
      q_a_proj: 'queryDown',
      q_b_proj: 'queryUp',
      kv_a_proj_with_mqa: 'keyValueDown',
      kv_b_proj: 'keyValueUp',
      o_proj: 'output',
    };
    const mlp = 'model.layers.{i}.mlp';
    return {
      rules: [
        ...outerRules('model.embed_tokens.weight', 'model.norm.weight'),
        { hub: 'model.layers.{i}.input_layernorm.weight', own: 'stack.layers.{i}.norm1.weight' },
        { hub: 'model.layers.{i}.post_attention_layernorm.weight', own: 'stack.layers.{i}.norm2.weight' },
        ...Object.entries(matrices).map(([theirs, ours]) => ({
          hub: `${attention}.${theirs}.weight`,
          own: `${mixer}.${ours}.weight`,
          transform: transpose,
        })),
        { hub: `${attention}.q_a_layernorm.weight`, own: `${mixer}.queryNorm.weight` },
        { hub: `${attention}.kv_a_layernorm.weight`, own: `${mixer}.keyValueNorm.weight` },
        ...onLayers(channels, 'mlp', mlpRules()),
        ...onLayers(channels, 'experts', [
          ...expertRules(mlp, config.count('n_routed_experts')),
          { hub: `${mlp}.gate.e_score_correction_bias`, own: 'stack.layers.{i}.channel.selectionBias' },
          ...mlpRules(`${mlp}.shared_experts`, 'stack.layers.{i}.channel.shared'),
        ]),
      ],
      tied: config.flag('tie_word_embeddings', false) ? [{ hub: 'lm_head.weight', of: 'model.embed_tokens.weight' }] : [],
      // the module for predicting several tokens at once stands after the last layer
      ignore: [/\.rotary_emb\.inv_freq$/, new RegExp(`^model\\.layers\\.${config.count('num_hidden_layers')}\\.`)],
      keepFloat32: [/norm\.weight$/, /mlp\.gate\.(weight|e_score_correction_bias)$/],
    };
  },
};
