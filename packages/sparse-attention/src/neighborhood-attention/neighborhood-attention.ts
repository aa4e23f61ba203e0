import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, mergeAttention, softmaxAttention, tidy } from '@seqloom/core';
import { neighborhoodAxes } from './axes.ts';
import type { NeighborhoodSettings } from './axes.ts';
import { gatheredForm, raggedForm } from './gathered.ts';
import { parallelForm } from './parallel.ts';

/** Tensors of `neighborhoodAttention`, float32; `...` is one to three axes of the grid. */
export interface NeighborhoodInputs {
  /** [B, ..., H, D] */
  readonly query: tf.Tensor;
  /** [B, ..., G, D], G divides H */
  readonly key: tf.Tensor;
  /** [B, ..., G, Dv] */
  readonly value: tf.Tensor;
  /** [B, M, G, D], keys that every query sees beside its neighborhood */
  readonly extraKey?: tf.Tensor | undefined;
  /** [B, M, G, Dv] */
  readonly extraValue?: tf.Tensor | undefined;
}

/** Options of `neighborhoodAttention`. */
export interface NeighborhoodOptions extends NeighborhoodSettings {
  /** default D^-0.5 */
  readonly scale?: number | undefined;
  /** default gathered; parallel computes every pair */
  readonly form?: 'gathered' | 'parallel' | undefined;
  /** [B], valid tokens per row with padding on the right; for one noncausal axis in the gathered form */
  readonly lengths?: tf.Tensor | undefined;
}

/** Output and log-sum-exp; the caller owns both. */
export type NeighborhoodResult = {
  /** [B, ..., H, Dv] */
  output: tf.Tensor;
  /** [B, ..., H] */
  logSumExp: tf.Tensor;
};

const MECHANISM = 'neighborhood-attention';

/**
 * Softmax attention of every token of a 1-D, 2-D or 3-D grid to its w nearest neighbours per axis: `o_i = sum_j softmax_j(scale q_i k_j) v_j`.
 *
 * Without causality each query has exactly w keys per axis: at a border the window moves inward. With it, the last w up to the query.
 *
 * @param inputs query [B, ..., H, D], key [B, ..., G, D], value [B, ..., G, Dv], and keys that all queries see
 * @param options window, dilation, stride, causal (once, or per axis), scale, form
 * @returns output [B, ..., H, Dv] and logSumExp [B, ..., H], both differentiable
 * @throws SeqLoomError when shapes, dtypes or settings do not fit
 * @see Hassani et al. 2022, arXiv 2204.07143; dilation: arXiv 2209.15001; stride: arXiv 2504.16922
 */
export function neighborhoodAttention(inputs: NeighborhoodInputs, options: NeighborhoodOptions): NeighborhoodResult {
  const { query, key, value, extraKey, extraValue } = inputs;
  const rank = query instanceof tf.Tensor ? query.rank - 3 : 1;
  const grid = ['axis 1', 'axis 2', 'axis 3'].slice(0, Math.min(Math.max(rank, 1), 3));
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'query', query, ['batch', ...grid, 'heads', 'head dim'], extents);
  checkTensor(MECHANISM, 'key', key, ['batch', ...grid, 'key heads', 'head dim'], extents);
  checkTensor(MECHANISM, 'value', value, ['batch', ...grid, 'key heads', 'value dim'], extents);
  const [batch, heads, groups] = [query.shape[0]!, query.shape[rank + 1]!, key.shape[rank + 1]!];
  checkSetting(MECHANISM, 'key', heads % groups === 0, `with as many heads as divide ${heads}`, groups, 'Repeat or drop key heads.');
  checkSetting(MECHANISM, 'extraValue', !extraKey === !extraValue, 'given together with extraKey', !!extraValue, 'Give both or none.');
  if (extraKey) checkTensor(MECHANISM, 'extraKey', extraKey, ['batch', 'extra keys', 'key heads', 'head dim'], extents);
  if (extraValue) checkTensor(MECHANISM, 'extraValue', extraValue, ['batch', 'extra keys', 'key heads', 'value dim'], extents);
  const axes = neighborhoodAxes(MECHANISM, rank, options, 'options.');
  const { form = 'gathered', lengths, scale = query.shape[rank + 2]! ** -0.5 } = options;
  checkSetting(
    MECHANISM,
    'options.form',
    ['gathered', 'parallel'].includes(form),
    'gathered or parallel',
    form,
    'Leave it out for gathered.',
  );
  checkSetting(MECHANISM, 'options.scale', Number.isFinite(scale), 'a finite number', scale, 'Leave it out for 1 / sqrt(D).');
  if (lengths) {
    const fits = rank === 1 && !axes[0]!.causal && form === 'gathered';
    checkSetting(MECHANISM, 'options.lengths', fits, 'absent but for one noncausal axis, gathered', rank, 'Cut rows to their lengths.');
    checkTensor(MECHANISM, 'options.lengths', lengths, [batch]);
  }
  const shape = query.shape.slice(1, rank + 1);
  const size = shape.reduce((product, length) => product * length, 1);
  const flat = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [batch, size, ...x.shape.slice(rank + 1)]);
  return tidy(() => {
    const tokens = { query: flat(query), key: flat(key), value: flat(value) };
    let result = lengths
      ? raggedForm(tokens, axes[0]!, lengths, scale)
      : (form === 'gathered' ? gatheredForm : parallelForm)(tokens, shape, axes, scale);
    if (extraKey && extraValue) {
      const extra = softmaxAttention({ query: tokens.query, key: extraKey, value: extraValue }, { scale });
      result = mergeAttention([result, extra]);
    }
    return {
      output: tf.reshape(result.output, [batch, ...shape, heads, value.shape[rank + 2]!]),
      logSumExp: tf.reshape(result.logSumExp, [batch, ...shape, heads]),
    };
  });
}
