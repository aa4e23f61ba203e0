import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, gatherRows, softmaxAttention, tidy } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import { affine, layerNorm } from '../dense.ts';
import type { Affine, NormTensors } from '../dense.ts';
import type { AttentionTensors, MemformerParameters } from './parameters.ts';
import { positionBuckets } from './position-buckets.ts';
import { readMemory } from './read.ts';
import { gelu, writeMemory } from './write.ts';

/** Learned tensors of one encoder layer. */
export interface EncoderLayerTensors {
  readonly selfNorm: NormTensors;
  readonly self: AttentionTensors;
  readonly readNorm: NormTensors;
  readonly read: AttentionTensors;
  readonly channelNorm: NormTensors;
  /** D to 4 D */
  readonly up: Affine;
  /** 4 D to D */
  readonly down: Affine;
}

/** Learned tensors of `memformerEncoder`. */
export interface EncoderTensors {
  readonly layers: readonly EncoderLayerTensors[];
  /** [32, H], a bias per bucket of distances and head, the same in all layers */
  readonly positionBias: tf.Tensor;
  readonly norm: NormTensors;
  readonly write: MemformerParameters['write'];
}

/** Settings of `memformerEncoder`. */
export interface EncoderSettings {
  readonly heads: number;
  /** of the writer; default heads */
  readonly writeHeads?: number;
  /** tau of the paper's writer, default 0.25 */
  readonly temperature?: number;
  /** times that the reference's writer runs, default 1 */
  readonly updates?: number;
}

/**
 * Memformer's encoder on one segment: each layer is self-attention in both directions, reading of the memory, and a feed-forward layer; what
 * comes out of the last one is written to the memory.
 *
 * @param inputs input [B, T, D], memory [B, N, D], and a mask [B, T] with 1 for tokens
 * @param parameters learned tensors; those of the writer choose it
 * @param settings heads and the writer's
 * @returns output [B, T, D] and the state after the segment, `memory` [B, N, D]; the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see Wu et al. 2020, arXiv 2010.06891
 */
export function memformerEncoder(
  inputs: { readonly input: tf.Tensor; readonly memory: tf.Tensor; readonly mask?: tf.Tensor | null },
  parameters: EncoderTensors,
  settings: EncoderSettings,
): { output: tf.Tensor3D; state: { memory: tf.Tensor3D } } {
  const { input, memory, mask = null } = inputs;
  const { heads, writeHeads = heads, temperature = 0.25, updates = 1 } = settings;
  const extents: Extents = new Map<string, number>();
  checkTensor('memformer', 'input', input, ['B', 'T', 'D'], extents);
  checkTensor('memformer', 'memory', memory, ['B', 'N', 'D'], extents);
  if (mask) checkTensor('memformer', 'mask', mask, ['B', 'T'], extents);
  const [batch, length, dim] = [extents.get('B')!, extents.get('T')!, extents.get('D')!];
  checkSetting('memformer', 'heads', dim % heads === 0, `a divisor of ${dim}`, heads, 'Channels are cut into heads.');
  return tidy(() => {
    const indices = tf.tensor1d(positionBuckets(length), 'int32');
    const table = tf.reshape(gatherRows({ table: parameters.positionBias, indices }), [length, length, heads]);
    let bias: tf.Tensor = tf.expandDims(tf.transpose(table, [2, 0, 1]), 0); // [1, H, T, T]
    if (mask) {
      const [rows, columns] = [tf.reshape(mask, [batch, 1, length, 1]), tf.reshape(mask, [batch, 1, 1, length])];
      const hidden = tf.mul(tf.mul(rows, tf.sub(columns, 1)), 1e9);
      // a query at padding sees all keys alike, as in the reference
      bias = tf.add(tf.mul(bias, tf.mul(rows, columns)), hidden);
    }
    let x = input;
    for (const layer of parameters.layers) {
      x = tf.add(x, attendWithin(layerNorm(x, layer.selfNorm), layer.self, { bias, mask, heads }));
      x = tf.add(x, readMemory(layerNorm(x, layer.readNorm), memory, layer.read, heads));
      x = tf.add(x, affine(gelu(affine(layerNorm(x, layer.channelNorm), layer.up)), layer.down));
    }
    const output = layerNorm(x, parameters.norm) as tf.Tensor3D;
    const places = mask ? tf.sub(tf.mul(mask, tf.reshape(tf.range(1, length + 1), [1, length])), 1) : undefined;
    const writer = { heads: writeHeads, temperature, updates };
    return { output, state: { memory: writeMemory(output, memory as tf.Tensor3D, parameters.write, writer, places) } };
  });
}

/** Self-attention with position biases [1 or B, H, T, T]; no gradient goes to scores of queries at padding. */
function attendWithin(
  x: tf.Tensor,
  parameters: AttentionTensors,
  { bias, mask, heads }: { readonly bias: tf.Tensor; readonly mask: tf.Tensor | null; readonly heads: number },
): tf.Tensor {
  const [batch, length, dim] = x.shape as [number, number, number];
  const cut = (rows: tf.Tensor): tf.Tensor => tf.reshape(rows, [batch, length, heads, dim / heads]);
  const query = cut(affine(x, parameters.query));
  const { output } = softmaxAttention({
    query: mask ? tf.mul(query, tf.reshape(mask, [batch, length, 1, 1])) : query,
    key: cut(affine(x, parameters.key)),
    value: cut(affine(x, parameters.value)),
    bias,
  });
  return affine(tf.reshape(output, [batch, length, dim]), parameters.output);
}
