import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import { gatheredForm } from './gathered.ts';
import { selectSlots } from './select-slots.ts';

const MECHANISM = 'memory-layers-at-scale';

/** Inputs of `productKeyMemory`, float32. */
export interface ProductKeyInputs {
  /** [B, T, H, K], K even */
  readonly query: tf.Tensor;
  /** C, half keys [H, 2, n, K / 2] */
  readonly keys: tf.Tensor;
  /** V [n^2, E]; slot i n + j has keys C1_i and C2_j */
  readonly values: tf.Tensor;
}

/** Settings of `productKeyMemory`. */
export interface ProductKeyOptions {
  /** k, best slots per token and head, at most n */
  readonly topK: number;
  /** weights of the chosen slots from their scores, default softmax */
  readonly weighting?: 'softmax' | 'relu';
}

/**
 * A table of n^2 values whose keys are all pairs of two lists of n half keys: the k best are found with 2 n scores,
 * `y = sum over heads and chosen slots of softmax(q1 C1_i + q2 C2_j) V_(i n + j)`.
 *
 * Time does not depend on the number of slots but by the 2 n scores; the gradient of `values` is a dense [n^2, E]. `MemoryTable` has a sparse one.
 *
 * @returns output [B, T, E] and an empty state; the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see "Memory Layers at Scale" (Berges et al. 2024, arXiv 2412.09764); "Large Memory Layers with Product Keys" (Lample et al. 2019, arXiv 1907.05242)
 */
export function productKeyMemory(
  inputs: ProductKeyInputs,
  options: ProductKeyOptions,
): { output: tf.Tensor3D; state: Record<string, never> } {
  const { query, keys, values } = inputs;
  const { topK, weighting = 'softmax' } = options;
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'query', query, ['B', 'T', 'H', 'K'], extents);
  checkTensor(MECHANISM, 'keys', keys, ['H', 2, 'n', extents.get('K')! / 2], extents);
  const halfKeys = extents.get('n')!;
  checkTensor(MECHANISM, 'values', values, [halfKeys ** 2, 'E'], extents);
  const fits = Number.isInteger(topK) && topK >= 1 && topK <= halfKeys;
  checkSetting(MECHANISM, 'topK', fits, `a whole number from 1 to ${halfKeys}`, topK, 'No more than one of the two lists has.');
  checkSetting(
    MECHANISM,
    'weighting',
    weighting === 'softmax' || weighting === 'relu',
    'softmax or relu',
    weighting,
    'Choose one of the two.',
  );
  const [batch, length, heads, width] = query.shape as [number, number, number, number];
  return tidy(() => {
    const rows = tf.reshape(query, [batch * length, heads, width]) as tf.Tensor3D;
    const chosen = selectSlots(rows, keys as tf.Tensor4D, topK, weighting);
    return { output: tf.reshape(gatheredForm(chosen, values), [batch, length, values.shape[1]!]) as tf.Tensor3D, state: {} };
  });
}
