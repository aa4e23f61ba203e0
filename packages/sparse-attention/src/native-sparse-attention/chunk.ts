import * as tf from '@tensorflow/tfjs-core';
import { mergeAttention, softmaxAttention } from '@seqloom/core';
import { completedWindows } from '../blocks/completed-windows.ts';
import { insideBlocks, listAttention } from '../blocks/list-attention.ts';
import { chooseBlocks } from './choose-blocks.ts';
import type { Compress } from './compression.ts';
import type { SparseInputs, SparseSettings } from './native-sparse-attention.ts';

/** Compressed keys or values of the windows that tokens complete, [B, n, G, D], with how many each row completes. */
export function compressCompleted(
  joined: tf.Tensor,
  fresh: number,
  position: tf.Tensor,
  lengths: tf.Tensor1D | null,
  { compressionLength, compressionStride }: Pick<SparseSettings, 'compressionLength' | 'compressionStride'>,
  compress: Compress,
): { rows: tf.Tensor4D; counts: tf.Tensor1D | null } | null {
  const completed = completedWindows(joined, fresh, position, lengths, { length: compressionLength, stride: compressionStride });
  if (!completed) return null;
  const [batch, count] = completed.tokens.shape;
  const windows = tf.reshape(completed.tokens, [batch, count, compressionLength, joined.shape[2]!, joined.shape[3]!]);
  return { rows: compress(windows as tf.Tensor5D), counts: completed.counts };
}

/** Adds up the branches, each weighted by its gate [B, T, H]; an absent gate is 1. */
export function gatedSum(branches: readonly { readonly output: tf.Tensor; readonly gate: tf.Tensor | undefined }[]): tf.Tensor4D {
  const terms = branches.map(({ output, gate }) => (gate ? tf.mul(output, tf.expandDims(gate, 3)) : output));
  return terms.reduce((a, b) => tf.add(a, b)) as tf.Tensor4D;
}

/** The chunk form: the three branches over a whole sequence. */
export function chunkForm(inputs: SparseInputs, settings: SparseSettings): tf.Tensor4D {
  const { query, key, value, compressedGate, selectedGate, windowGate } = inputs;
  const { compressionLength, compressionStride, selectionBlock, window, scale } = settings;
  const [batch, length, groups] = key.shape as [number, number, number];
  const positions = tf.reshape(tf.range(0, length, 1, 'float32'), [1, length]);
  const start = tf.zeros([batch]);
  const keys = compressCompleted(key, length, start, null, settings, settings.compressKey);
  const values = compressCompleted(value, length, start, null, settings, settings.compressValue);
  const branches: { output: tf.Tensor; gate: tf.Tensor | undefined }[] = [];
  let scores: Parameters<typeof chooseBlocks>[0] = null;
  if (keys && values) {
    const count = keys.rows.shape[1];
    const last = tf.add(tf.mul(tf.range(0, count, 1, 'float32'), compressionStride), compressionLength - 1);
    const everywhere = tf.zeros([batch, 1]);
    const { output, logSumExp } = softmaxAttention(
      {
        query,
        key: keys.rows,
        value: values.rows,
        queryPositions: tf.add(positions, everywhere),
        keyPositions: tf.add(tf.reshape(last, [1, count]), everywhere),
      },
      { causal: true, scale },
    );
    branches.push({ output, gate: compressedGate });
    scores = { query, compressedKey: keys.rows, logSumExp };
  }
  const blocks = chooseBlocks(scores, positions, length, { batch, groups }, settings);
  const own = insideBlocks({ query, key, value }, { block: selectionBlock, scale });
  const others = blocks.shape[3]! - 1;
  // the own block comes first; the others are complete, so that no query has to be hidden a key of them
  const rest = others > 0 ? tf.slice(blocks, [0, 0, 0, 1], [batch, groups, length, others]) : null;
  const selected = rest ? mergeAttention([own, listAttention({ query, key, value }, rest, { keyBlock: selectionBlock, scale })]) : own;
  branches.push({ output: selected.output, gate: selectedGate });
  if (window > 0) {
    const near = softmaxAttention({ query, key, value }, { causal: true, window, aligned: true, scale });
    branches.push({ output: near.output, gate: windowGate });
  }
  return gatedSum(branches);
}
