import * as tf from '@tensorflow/tfjs-core';
import { mergeAttention, softmaxAttention } from '@seqloom/core';
import { affine, layerNorm } from '../dense.ts';
import type { AttentionTensors, GatedWriterTensors, NormalisedWriterTensors } from './parameters.ts';

/** Settings of the writers. */
export interface WriterSettings {
  readonly heads: number;
  /** tau, of the paper's writer */
  readonly temperature: number;
  /** times that the reference's writer runs per segment */
  readonly updates: number;
}

/**
 * Writes a segment to the memory.
 *
 * @param tokens [B, L, D]
 * @param memory [B, N, D]
 * @param keyPositions [B, L], -1 at padding
 * @returns the next memory [B, N, D]
 */
export function writeMemory(
  tokens: tf.Tensor,
  memory: tf.Tensor3D,
  parameters: NormalisedWriterTensors | GatedWriterTensors,
  { heads, temperature, updates }: WriterSettings,
  keyPositions?: tf.Tensor,
): tf.Tensor3D {
  if ('slotBias' in parameters) {
    const attended = attendFromSlots(tokens, memory, parameters, { heads, temperature, keyPositions });
    return normaliseSlots(tf.add(attended, parameters.slotBias)) as tf.Tensor3D;
  }
  let next = memory;
  for (let update = 0; update < updates; update++) {
    const attended = attendFromSlots(tokens, next, parameters, { heads, temperature: 1, keyPositions });
    next = gateSlots(attended, next, parameters);
  }
  return next;
}

/** `m / |m|`. */
export function normaliseSlots(memory: tf.Tensor): tf.Tensor {
  return tf.div(memory, tf.add(tf.sqrt(tf.add(tf.sum(tf.square(memory), -1, true), 1e-24)), 1e-6));
}

/** Each slot attends to itself and to all tokens, never to other slots: `softmax(q_i [k_i; K] / (sqrt(d) tau)) [v_i; V]`. */
function attendFromSlots(
  tokens: tf.Tensor,
  memory: tf.Tensor3D,
  parameters: AttentionTensors,
  { heads, temperature, keyPositions }: { heads: number; temperature: number; keyPositions: tf.Tensor | undefined },
): tf.Tensor {
  const [batch, slots, dim] = memory.shape;
  const cut = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [batch, x.shape[1]!, heads, dim / heads]);
  const query = cut(affine(memory, parameters.query)); // [B, N, H, D / H]
  const scale = 1 / (Math.sqrt(dim / heads) * temperature);
  const own = {
    output: cut(affine(memory, parameters.value)),
    logSumExp: tf.mul(tf.sum(tf.mul(query, cut(affine(memory, parameters.key))), 3), scale),
  };
  const seen = softmaxAttention(
    {
      query,
      key: cut(affine(tokens, parameters.key)),
      value: cut(affine(tokens, parameters.value)),
      ...(keyPositions ? { keyPositions } : {}),
    },
    { scale },
  );
  const { output } = mergeAttention([own, seen]);
  return affine(tf.reshape(output, [batch, slots, dim]), parameters.output);
}

/** `h = GRU(attended, memory)`, then `h + W_down gelu(W_up norm h)`. */
function gateSlots(attended: tf.Tensor, memory: tf.Tensor3D, parameters: GatedWriterTensors): tf.Tensor3D {
  const split = (x: tf.Tensor): tf.Tensor[] => tf.split(x, 3, 2);
  const [inputReset, inputUpdate, inputCandidate] = split(affine(attended, parameters.gateInput)) as [tf.Tensor, tf.Tensor, tf.Tensor];
  const [memoryReset, memoryUpdate, memoryCandidate] = split(affine(memory, parameters.gateMemory)) as [tf.Tensor, tf.Tensor, tf.Tensor];
  const reset = tf.sigmoid(tf.add(inputReset, memoryReset));
  const update = tf.sigmoid(tf.add(inputUpdate, memoryUpdate));
  const candidate = tf.tanh(tf.add(inputCandidate, tf.mul(reset, memoryCandidate)));
  const hidden = tf.add(candidate, tf.mul(update, tf.sub(memory, candidate)));
  const inner = gelu(affine(layerNorm(hidden, parameters.norm), parameters.up));
  return tf.add(hidden, affine(inner, parameters.down)) as tf.Tensor3D;
}

/** `x Phi(x)`, with the error function. */
export function gelu(x: tf.Tensor): tf.Tensor {
  return tf.mul(tf.mul(x, 0.5), tf.add(1, tf.erf(tf.mul(x, Math.SQRT1_2))));
}
