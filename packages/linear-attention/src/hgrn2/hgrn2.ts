import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { checkRule } from '../rule/run-rule.ts';
import type { RuleOptions, RuleResult } from '../rule/run-rule.ts';
import { chunkForm } from './chunk.ts';
import { recurrentForm } from './recurrent.ts';

/** Tensors that `hgrn2` reads, all float32. */
export interface Hgrn2Tensors {
  /** [B, T, Hq, K], after its activation; the output gate of the paper */
  readonly query: tf.Tensor;
  /** log of the forget gate f, at most 0, [B, T, H, K] */
  readonly logDecay: tf.Tensor;
  /** [B, T, H, V] */
  readonly value: tf.Tensor;
  /** 1 - f where the caller knows it better than float32 can tell from `logDecay`, [B, T, H, K] */
  readonly write?: tf.Tensor;
}

/** Options of `hgrn2`: state, scale, form, chunkSize, mask. */
export type Hgrn2Options = RuleOptions;

const MECHANISM = 'hgrn2';

/**
 * HGRN2: a gated recurrence whose state is a matrix per head, with the forget gate as decay and its complement as key.
 *
 * `S_t = diag(f_t) S_{t-1} + (1 - f_t) v_t^T`, `o_t = scale S_t^T q_t`: each row of the memory is a weighted mean of past values.
 *
 * @param tensors query [B, T, Hq, K], logDecay = log f [B, T, H, K] (at most 0), value [B, T, H, V], and 1 - f as `write` [B, T, H, K] if known
 *   (default `-expm1(logDecay)`); Hq is a multiple of H
 * @param options state of an earlier call, scale (K^-0.5), form (chunk), chunkSize (64), mask [B, T]
 * @returns output [B, T, Hq, V] and the state after the last token, `memory` [B, H, K, V]; both are the caller's to dispose
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see Qin et al. 2024, arXiv 2404.07904
 */
export function hgrn2(tensors: Hgrn2Tensors, options: Hgrn2Options = {}): RuleResult {
  const { query, logDecay, value, write } = tensors;
  const { form = 'chunk' } = options;
  const extents: Extents = new Map<string, number>();
  checkTensor(MECHANISM, 'query', query, ['B', 'T', 'Hq', 'K'], extents);
  checkTensor(MECHANISM, 'logDecay', logDecay, ['B', 'T', 'H', 'K'], extents);
  checkTensor(MECHANISM, 'value', value, ['B', 'T', 'H', 'V'], extents);
  if (write) checkTensor(MECHANISM, 'write', write, ['B', 'T', 'H', 'K'], extents);
  checkSetting(MECHANISM, 'form', form === 'chunk' || form === 'recurrent', 'chunk or recurrent', form, 'Leave it out for chunk.');
  // all of it before any work, the key not being there yet
  checkRule(MECHANISM, 'gated', { query, key: logDecay, value, logDecay }, options);
  const run = form === 'recurrent' ? recurrentForm : chunkForm;
  return tidy(() => run(MECHANISM, { query, key: write ?? tf.neg(tf.expm1(logDecay)), value, logDecay }, options));
}
