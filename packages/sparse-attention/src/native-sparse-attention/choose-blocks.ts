import * as tf from '@tensorflow/tfjs-core';
import { stopGradient, tidy } from '@seqloom/core';
import { groupedScores, selectBlocks } from '../blocks/selection.ts';
import type { SparseSettings } from './native-sparse-attention.ts';

/** What the compressed branch knows about its windows. */
export interface CompressedScores {
  /** [B, T, H, D] */
  readonly query: tf.Tensor;
  /** [B, N, G, D] */
  readonly compressedKey: tf.Tensor;
  /** [B, T, H], of the compressed branch */
  readonly logSumExp: tf.Tensor;
  /** positions of the queries, [1 or B, T] */
  readonly positions: tf.Tensor;
}

// log-sum-exps of nothing are -Infinity, which must not meet the mask
const FLOOR = -1e29;
// weights of windows that may live at once
const TILE_ELEMENTS = 1 << 22;

/**
 * The blocks that each group of query heads reads: its own, first and last ones, and those whose windows got the most weight.
 *
 * @param scores of the compressed branch; null where no window is complete
 * @param positions of the queries, [1 or B, T]
 * @param total tokens from the start of the sequence to its end
 * @param shape batch B and key heads G
 * @returns whole numbers in float32 [B, G, T, min(n, blocks)], the own block first, -1 for none; without gradient
 */
export function chooseBlocks(
  scores: Omit<CompressedScores, 'positions'> | null,
  positions: tf.Tensor,
  total: number,
  { batch, groups }: { readonly batch: number; readonly groups: number },
  settings: SparseSettings,
): tf.Tensor {
  const length = positions.shape[1]!;
  const together = scores
    ? Math.max(1, Math.floor(TILE_ELEMENTS / (batch * scores.query.shape[2]! * scores.compressedKey.shape[1]!)))
    : length;
  return tidy(() => {
    const cut = (x: tf.Tensor, from: number, count: number): tf.Tensor =>
      tf.slice(x, [0, from, ...x.shape.slice(2).map(() => 0)], [x.shape[0]!, count, ...x.shape.slice(2)]);
    const pieces: tf.Tensor[] = [];
    for (let from = 0; from < length; from += together) {
      const size = Math.min(together, length - from);
      const part = scores && {
        query: cut(stopGradient(scores.query), from, size),
        compressedKey: stopGradient(scores.compressedKey),
        logSumExp: cut(stopGradient(scores.logSumExp), from, size),
      };
      pieces.push(chooseFor(part, cut(positions, from, size), total, { batch, groups }, settings));
    }
    return pieces.length === 1 ? pieces[0]! : tf.concat(pieces, 2);
  });
}

/** The choice of a run of queries. */
function chooseFor(
  scores: Omit<CompressedScores, 'positions'> | null,
  positions: tf.Tensor,
  total: number,
  { batch, groups }: { readonly batch: number; readonly groups: number },
  settings: SparseSettings,
): tf.Tensor {
  const { selectionBlock, initialBlocks, localBlocks, selected } = settings;
  return tidy(() => {
    const count = Math.ceil(total / selectionBlock);
    const block = tf.range(0, count, 1, 'float32');
    const own = tf.reshape(tf.floor(tf.div(positions, selectionBlock)), [positions.shape[0]!, 1, -1, 1]); // [1 or B, 1, T, 1]
    const behind = tf.sub(own, block);
    // whole numbers: clip(x + 1, 0, 1) says x >= 0
    const visible = tf.clipByValue(tf.add(behind, 1), 0, 1);
    const isOwn = tf.relu(tf.sub(1, tf.abs(behind)));
    const first = tf.clipByValue(tf.sub(initialBlocks, block), 0, 1);
    const local = tf.clipByValue(tf.sub(localBlocks, behind), 0, 1);
    const forced = tf.mul(tf.add(tf.maximum(first, local), isOwn), visible);
    const length = positions.shape[1]!;
    const importance = scores ? importanceOf({ ...scores, positions }, count, settings) : tf.zeros([batch, groups, length, count]);
    return selectBlocks(importance, { visible, forced, count: selected });
  });
}

/** Sums the weights of windows over a group, and shares them out to the blocks that they overlap: [B, G, T, blocks]. */
function importanceOf(
  { query, compressedKey, logSumExp, positions }: CompressedScores,
  count: number,
  settings: SparseSettings,
): tf.Tensor {
  const { compressionLength, compressionStride, selectionBlock, scale } = settings;
  const [batch, length, heads] = query.shape as [number, number, number];
  const [, windows, groups] = compressedKey.shape as [number, number, number];
  const last = tf.add(tf.mul(tf.range(0, windows, 1, 'float32'), compressionStride), compressionLength - 1);
  const complete = tf.clipByValue(tf.add(tf.sub(tf.expandDims(positions, 2), last), 1), 0, 1); // [1 or B, T, N]
  const logits = groupedScores(tf.mul(query, scale), compressedKey); // [B, H, T, N]
  const normaliser = tf.maximum(tf.expandDims(tf.transpose(logSumExp, [0, 2, 1]), 3), FLOOR);
  const hidden = tf.mul(tf.sub(tf.expandDims(complete, 1), 1), 1e30);
  const weights = tf.exp(tf.add(tf.sub(logits, normaliser), hidden));
  const grouped = tf.sum(tf.reshape(weights, [batch, groups, heads / groups, length, windows]), 2); // [B, G, T, N]
  if (compressionLength === compressionStride && compressionStride === selectionBlock) return widen(grouped, count);
  const shares = Float32Array.from({ length: windows * count }, (_, place) => {
    const [start, first] = [Math.floor(place / count) * compressionStride, (place % count) * selectionBlock];
    const shared = Math.min(first + selectionBlock, start + compressionLength) - Math.max(first, start);
    return Math.max(0, shared) / compressionStride;
  });
  const flat = tf.reshape(grouped, [batch * groups * length, windows]);
  return tf.reshape(tf.matMul(flat, tf.tensor2d(shares, [windows, count])), [batch, groups, length, count]);
}

/** Adds zeros for blocks that have no window yet. */
function widen(weights: tf.Tensor, count: number): tf.Tensor {
  const [batch, groups, length, windows] = weights.shape as [number, number, number, number];
  return windows === count ? weights : tf.concat([weights, tf.zeros([batch, groups, length, count - windows])], 3);
}
