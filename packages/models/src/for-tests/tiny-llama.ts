import { Random } from '@seqloom/core';
import type { TensorInput } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';

/** The `config.json` of a Llama that loads in a moment. */
export const llama = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  vocab_size: 17,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
  torch_dtype: 'float32',
};

/** Tensors of a checkpoint by name. */
export type CheckpointTensors = Record<string, TensorInput<Float32Array>>;

/** Random weights under the names of a Llama. */
export function llamaTensors(config: typeof llama = llama): CheckpointTensors {
  const random = new Random(5);
  const tensors: CheckpointTensors = {};
  const add = (name: string, ...shape: number[]): void => {
    const data = Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => random.normal());
    tensors[name] = { dtype: 'F32', shape, data };
  };
  add('model.embed_tokens.weight', 17, 8);
  for (const layer of [0, 1]) {
    const at = `model.layers.${layer}`;
    for (const norm of ['input_layernorm', 'post_attention_layernorm']) add(`${at}.${norm}.weight`, 8);
    for (const [part, rows] of [
      ['q', 8],
      ['k', 4],
      ['v', 4],
      ['o', 8],
    ] as const)
      add(`${at}.self_attn.${part}_proj.weight`, rows, 8);
    for (const part of ['gate', 'up']) add(`${at}.mlp.${part}_proj.weight`, 12, 8);
    add(`${at}.mlp.down_proj.weight`, 8, 12);
  }
  add('model.norm.weight', 8);
  if (!config.tie_word_embeddings) add('lm_head.weight', 17, 8);
  return tensors;
}
