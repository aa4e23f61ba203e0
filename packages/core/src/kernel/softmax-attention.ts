import type * as tf from '@tensorflow/tfjs-core';
import { fail } from '../error.ts';
import { defineKernel } from './define.ts';
import { softmaxAttentionAttributes } from './softmax-attention/attributes.ts';
import type { SoftmaxAttentionAttributes, SoftmaxAttentionOptions } from './softmax-attention/attributes.ts';
import { attentionForward } from './softmax-attention/forward.ts';
import { attentionGradient } from './softmax-attention/gradient.ts';

export type { SoftmaxAttentionAttributes, SoftmaxAttentionOptions };

/** Inputs of `SoftmaxAttention`: float32, layout batch, time, heads, channels. */
export type SoftmaxAttentionInputs = {
  /** [B, T, H, D] */
  readonly query: tf.Tensor;
  /** [B, S, G, D]; G divides H, query head h reads key head floor(h G / H) */
  readonly key: tf.Tensor;
  /** [B, S, G, Dv] */
  readonly value: tf.Tensor;
  /** [B, T] whole numbers; default i + S - T */
  readonly queryPositions?: tf.Tensor | undefined;
  /** [B, S] whole numbers; -1 = this key does not exist; default j */
  readonly keyPositions?: tf.Tensor | undefined;
  /** [1 or B, 1 or H, T, S], added after scale and soft cap; -Infinity hides a key */
  readonly bias?: tf.Tensor | undefined;
  /** [H], one more logit in the denominator that carries no value */
  readonly sinkLogits?: tf.Tensor | undefined;
  /** [H], ALiBi: adds -slope |query position - key position| */
  readonly slopes?: tf.Tensor | undefined;
};

/** The `SoftmaxAttention` contract: online softmax over tiles of keys, gradient by recomputation from logSumExp. */
export const softmaxAttentionKernel = defineKernel<SoftmaxAttentionInputs, SoftmaxAttentionAttributes, 'output' | 'logSumExp'>({
  name: 'SoftmaxAttention',
  outputs: ['output', 'logSumExp'],
  composed: attentionForward,
  gradient: {
    inputs: ['query', 'key', 'value', 'bias', 'sinkLogits', 'slopes'],
    needs: ['output', 'logSumExp'],
    composed: attentionGradient,
  },
});

/**
 * Softmax attention with grouped queries, windows, sinks, prefixes, biases and soft cap.
 *
 * s_ij = cap(scale q_i·k_j) - slope |p_i - p_j| + bias_ij over visible j; output_i = sum_j e^(s_ij - logSumExp_i) v_j,
 * logSumExp_i = ln(sum_j e^(s_ij) + e^sink). A row that sees nothing has output 0, logSumExp -Infinity (or its sink logit) and
 * zero gradients. Memory is linear in T and S, forward and backward; two partial results over disjoint keys merge exactly with
 * `mergeAttention`.
 *
 * @param inputs query [B, T, H, D], key [B, S, G, D], value [B, S, G, Dv] and the optional tensors
 * @param options visibility, scale, soft cap and tile size
 * @returns output [B, T, H, Dv] and logSumExp [B, T, H], both differentiable
 * @throws SeqLoomError when a rank, shape, dtype or option does not fit
 * @see "Attention Is All You Need" (Vaswani et al. 2017); online softmax: Milakov and Gimelshein 2018; tiles: FlashAttention, Dao et al. 2022
 */
export function softmaxAttention(
  inputs: SoftmaxAttentionInputs,
  options: SoftmaxAttentionOptions = {},
): { output: tf.Tensor4D; logSumExp: tf.Tensor3D } {
  const { query, key, value, queryPositions, keyPositions, bias, sinkLogits, slopes } = inputs;
  const [B, T, H, D] = shapeOf('query', query, ['B', 'T', 'H', 'D']) as [number, number, number, number];
  const [, S, G] = shapeOf('key', key, [B, 'S', 'G', D]) as [number, number, number];
  shapeOf('value', value, [B, S, G, 'Dv']);
  if (H % G !== 0)
    reject(
      'key',
      `[${B}, ${S}, G, ${D}] with G a divisor of the ${H} query heads`,
      `G = ${G}`,
      'Use a key head count that divides the query head count.',
    );
  if (queryPositions) shapeOf('queryPositions', queryPositions, [B, T]);
  if (keyPositions) shapeOf('keyPositions', keyPositions, [B, S]);
  if (bias) {
    const [biasB, biasH] = shapeOf('bias', bias, ['1 or B', '1 or H', T, S]) as [number, number];
    if ((biasB !== 1 && biasB !== B) || (biasH !== 1 && biasH !== H))
      reject(
        'bias',
        `[1 or ${B}, 1 or ${H}, ${T}, ${S}]`,
        `[${bias.shape.join(', ')}]`,
        'Give the bias per row and head, or once for all.',
      );
  }
  if (sinkLogits) shapeOf('sinkLogits', sinkLogits, [H]);
  if (slopes) shapeOf('slopes', slopes, [H]);

  const attributes = softmaxAttentionAttributes(options, { headDim: D, queryPositions: Boolean(queryPositions) });
  return softmaxAttentionKernel.run(inputs, attributes) as {
    output: tf.Tensor4D;
    logSumExp: tf.Tensor3D;
  };
}

function shapeOf(argument: string, tensor: tf.Tensor, wanted: readonly (number | string)[]): readonly number[] {
  const given = tensor?.shape;
  const fits = given?.length === wanted.length && wanted.every((size, axis) => typeof size === 'string' || size === given[axis]);
  if (!fits)
    reject(
      argument,
      `a tensor of shape [${wanted.join(', ')}]`,
      given ? `[${given.join(', ')}]` : String(tensor),
      'Layouts are batch, time, heads, channels.',
    );
  if (tensor.dtype !== 'float32') reject(argument, 'float32', tensor.dtype, 'Cast it with tf.cast(x, "float32").');
  if (given.includes(0))
    reject(argument, 'without empty axes', `[${given.join(', ')}]`, 'Skip the call when there is nothing to attend to.');
  return given;
}

function reject(argument: string, wanted: string, given: string, remedy: string): never {
  return fail({ mechanism: 'SoftmaxAttention', argument, wanted, given, remedy });
}
