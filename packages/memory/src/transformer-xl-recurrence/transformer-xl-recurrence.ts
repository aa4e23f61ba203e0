import type * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import { chunkForm } from './chunk.ts';
import { parallelForm } from './parallel.ts';

const MECHANISM = 'transformer-xl-recurrence';

/** Inputs of `transformerXlAttention`: float32; the last T of the S keys belong to the queries, those before are the memory. */
export interface TransformerXlInputs {
  /** [B, T, H, D] */
  readonly query: tf.Tensor;
  /** [B, S, H, D] */
  readonly key: tf.Tensor;
  /** [B, S, H, V] */
  readonly value: tf.Tensor;
  /** [S, H, D], keys of distances, from the largest, S - 1, to 0 */
  readonly relative: tf.Tensor;
  /** u [H, D] */
  readonly contentBias: tf.Tensor;
  /** v [H, D] */
  readonly positionBias: tf.Tensor;
}

/** Settings of `transformerXlAttention`; everything has a default. */
export interface TransformerXlSettings {
  /** largest distance that a query sees, default null: any */
  readonly reach?: number | null;
  /** [B, T], index of the first key that each query sees */
  readonly earliest?: tf.Tensor;
  /** [B, S], the index of each key that exists, -1 for others */
  readonly keyPositions?: tf.Tensor;
  /** default chunk */
  readonly form?: 'parallel' | 'chunk';
  /** queries per block, default 128 */
  readonly chunkSize?: number;
}

/**
 * Attention with relative positions over memory and segment:
 * `o_i = sum_j softmax_j(((q_i + u) k_j + (q_i + v) r_(i - j)) / sqrt(D)) v_j` over visible j <= i.
 *
 * @param inputs query, key, value, relative, contentBias, positionBias
 * @param settings reach, form and the rest; see `TransformerXlSettings`
 * @returns output [B, T, H, V], the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see Dai et al. 2019, arXiv 1901.02860, section 3.3
 */
export function transformerXlAttention(inputs: TransformerXlInputs, settings: TransformerXlSettings = {}): { output: tf.Tensor4D } {
  const { reach = null, earliest = null, keyPositions = null, form = 'chunk', chunkSize = 128 } = settings;
  const extents: Extents = new Map<string, number>();
  checkTensor(MECHANISM, 'query', inputs.query, ['B', 'T', 'H', 'D'], extents);
  checkTensor(MECHANISM, 'key', inputs.key, ['B', 'S', 'H', 'D'], extents);
  checkTensor(MECHANISM, 'value', inputs.value, ['B', 'S', 'H', 'V'], extents);
  checkTensor(MECHANISM, 'relative', inputs.relative, ['S', 'H', 'D'], extents);
  checkTensor(MECHANISM, 'contentBias', inputs.contentBias, ['H', 'D'], extents);
  checkTensor(MECHANISM, 'positionBias', inputs.positionBias, ['H', 'D'], extents);
  if (earliest) checkTensor(MECHANISM, 'earliest', earliest, ['B', 'T'], extents);
  if (keyPositions) checkTensor(MECHANISM, 'keyPositions', keyPositions, ['B', 'S'], extents);
  const [length, keys] = [extents.get('T')!, extents.get('S')!];
  checkSetting(MECHANISM, 'key', keys >= length, `at least ${length} keys, one per query`, keys, 'Put the memory in front of the keys.');
  const whole = (value: number, least: number): boolean => Number.isInteger(value) && value >= least;
  checkSetting(MECHANISM, 'reach', reach === null || whole(reach, 0), 'null or a whole number of at least 0', reach, 'It counts tokens.');
  checkSetting(MECHANISM, 'chunkSize', whole(chunkSize, 1), 'a whole number of at least 1', chunkSize, 'It counts queries.');
  checkSetting(MECHANISM, 'form', form === 'parallel' || form === 'chunk', 'parallel or chunk', form, 'Leave it out for chunk.');
  return tidy(() => {
    const visibility = { reach, earliest, keyPositions };
    return { output: form === 'parallel' ? parallelForm(inputs, visibility) : chunkForm(inputs, visibility, chunkSize) };
  });
}
