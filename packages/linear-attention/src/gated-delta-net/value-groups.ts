import { checkSetting, checkTensor } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import type { RuleTensors } from '../rule/run-rule.ts';

/** Tensors of a gated delta rule, all float32. */
export interface GatedDeltaTensors {
  /** [B, T, H, K] */
  readonly query: tf.Tensor;
  /** [B, T, H, K], of length one: the op does not normalise */
  readonly key: tf.Tensor;
  /** [B, T, Hv, V], Hv a multiple of H; value head h uses query and key head floor(h * H / Hv) */
  readonly value: tf.Tensor;
  /** natural log of the decay, at most 0; minus infinity forgets everything */
  readonly logDecay: tf.Tensor;
  /** [B, T, Hv], from 0 to 2: the share of the old value at the key that the new one replaces; above 2 the memory diverges */
  readonly beta: tf.Tensor;
}

/**
 * Gives every value head its query and key head.
 *
 * @param decayAxes names of the axes of `logDecay`
 * @returns tensors for the update rule with Hv heads all over; call it inside a tidy
 * @throws SeqLoomError when the tensors do not fit each other
 */
export function groupByValue(mechanism: string, tensors: GatedDeltaTensors, decayAxes: readonly string[]): RuleTensors {
  const { query, key, value, logDecay, beta } = tensors;
  const extents: Extents = new Map<string, number>();
  checkTensor(mechanism, 'query', query, ['B', 'T', 'H', 'K'], extents);
  checkTensor(mechanism, 'key', key, ['B', 'T', 'H', 'K'], extents);
  checkTensor(mechanism, 'value', value, ['B', 'T', 'Hv', 'V'], extents);
  const [heads, valueHeads] = [extents.get('H')!, extents.get('Hv')!];
  checkSetting(
    mechanism,
    'value',
    valueHeads % heads === 0,
    `of a multiple of ${heads} heads`,
    `${valueHeads} heads`,
    'Group value heads evenly.',
  );
  checkTensor(mechanism, 'logDecay', logDecay, decayAxes, extents);
  checkTensor(mechanism, 'beta', beta, ['B', 'T', 'Hv'], extents);
  return { query: repeatHeads(query, valueHeads), key: repeatHeads(key, valueHeads), value, logDecay, beta };
}

function repeatHeads(rows: tf.Tensor, wanted: number): tf.Tensor {
  const [batch, length, heads, width] = rows.shape as [number, number, number, number];
  if (wanted === heads) return rows;
  const once = tf.reshape(rows, [batch * length * heads, 1, width]);
  const repeated = tf.concat(Array<tf.Tensor>(wanted / heads).fill(once), 1);
  return tf.reshape(repeated, [batch, length, wanted, width]);
}
