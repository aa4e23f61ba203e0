import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, keepValid, tidy } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import { EMPTY_LOGIT, parallelForm } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

const MECHANISM = 'aaren';

/** Tensors that `aaren` reads, all float32. */
export interface AarenTensors {
  /** [H, K], the same for every token */
  readonly query: tf.Tensor;
  /** [B, T, H, K] */
  readonly key: tf.Tensor;
  /** [B, T, H, V] */
  readonly value: tf.Tensor;
}

/** What Aaren carries from piece to piece: a softmax over all tokens so far. */
export interface AarenState {
  readonly [name: string]: tf.Tensor;
  /** m, the largest logit, [B, H] */
  readonly maximum: tf.Tensor;
  /** u, sum of exp(s - m), [B, H]; 0 while there are no tokens */
  readonly denominator: tf.Tensor;
  /** w, sum of exp(s - m) v, [B, H, V] */
  readonly numerator: tf.Tensor;
}

/** Options of `aaren`; everything has a default. */
export interface AarenOptions {
  /** state of an earlier call */
  readonly state?: AarenState;
  /** factor of the logits, default K^-0.5 */
  readonly scale?: number;
  /** default recurrent, which is the faster one; both give the same */
  readonly form?: 'parallel' | 'recurrent';
  /** [B, T], 1 for tokens and 0 for padding, which changes nothing; what stands there must be finite */
  readonly mask?: tf.Tensor;
}

/**
 * Softmax attention of one learned query per head over the tokens so far, as a recurrence:
 * `o_t = sum_{j <= t} exp(s_j) v_j / sum_{j <= t} exp(s_j)`, `s_j = scale q k_j`.
 *
 * Sums are relative to the largest logit so far, so logits of any size are exact to their own rounding.
 *
 * @param tensors query [H, K], key [B, T, H, K], value [B, T, H, V]
 * @param options state, scale (K^-0.5), form (recurrent), mask
 * @returns output [B, T, H, V] and the state after the last token: `maximum` and `denominator` [B, H], `numerator` [B, H, V]; the caller
 *   owns them
 * @throws SeqLoomError on a wrong rank, shape, dtype or option
 * @see Feng et al. 2024, "Attention as an RNN", arXiv 2405.13956
 */
export function aaren(tensors: AarenTensors, options: AarenOptions = {}): { output: tf.Tensor4D; state: AarenState } {
  check(tensors, options);
  const { query, key, value } = tensors;
  const [batch, length, heads, keyDim] = key.shape as [number, number, number, number];
  const valueDim = value.shape[3]!;
  const { state, scale = keyDim ** -0.5, form, mask = null } = options;
  return tidy(() => {
    const scores = tf.mul(tf.sum(tf.mul(key, query), 3, true), scale); // [B, T, H, 1]
    const absent = mask && tf.mul(tf.sub(1, tf.cast(mask, 'float32')), EMPTY_LOGIT);
    const logits = absent ? tf.add(keepValid(scores, mask), tf.reshape(absent, [batch, length, 1, 1])) : scores;
    const values = keepValid(tf.concat([value, tf.ones([batch, length, heads, 1])], 3), mask);
    const before = carried(state, [batch, heads, valueDim]);
    const { maximum, sums } = (form === 'parallel' ? parallelForm : recurrentForm)({ logits, values, before });
    const [numerator, denominator] = tf.split(sums, [valueDim, 1], 3) as [tf.Tensor4D, tf.Tensor4D];
    const last = (tensor: tf.Tensor, shape: number[]): tf.Tensor =>
      tf.reshape(tf.slice(tensor, [0, length - 1, 0, 0], [batch, 1, heads, tensor.shape[3]!]), shape);
    const total = last(denominator, [batch, heads]);
    const top = last(maximum, [batch, heads]);
    return {
      // nothing but padding so far: 0, not 0 / 0
      output: tf.div(numerator, tf.maximum(denominator, 1e-37)) as tf.Tensor4D,
      state: {
        maximum: tf.where(tf.greater(total, 0), top, tf.zerosLike(top)),
        denominator: total,
        numerator: last(numerator, [batch, heads, valueDim]),
      },
    };
  });
}

// the state as one token in front of all others
function carried(state: AarenState | undefined, [batch, heads, width]: [number, number, number]): { maximum: tf.Tensor; sums: tf.Tensor } {
  const shape = [batch, 1, heads, 1];
  if (!state) return { maximum: tf.fill(shape, EMPTY_LOGIT), sums: tf.zeros([batch, 1, heads, width + 1]) };
  const { maximum, denominator, numerator } = state;
  const seen = tf.greater(denominator, 0);
  const top = tf.where(seen, maximum, tf.fill(maximum.shape, EMPTY_LOGIT));
  const sums = tf.concat([tf.reshape(numerator, [batch, 1, heads, width]), tf.reshape(denominator, shape)], 3);
  return { maximum: tf.reshape(top, shape), sums };
}

function check({ query, key, value }: AarenTensors, { state, scale = 1, form = 'recurrent', mask }: AarenOptions): void {
  const extents: Extents = new Map<string, number>();
  checkTensor(MECHANISM, 'key', key, ['B', 'T', 'H', 'K'], extents);
  checkTensor(MECHANISM, 'value', value, ['B', 'T', 'H', 'V'], extents);
  checkTensor(MECHANISM, 'query', query, ['H', 'K'], extents);
  if (state) {
    checkTensor(MECHANISM, 'state.maximum', state.maximum, ['B', 'H'], extents);
    checkTensor(MECHANISM, 'state.denominator', state.denominator, ['B', 'H'], extents);
    checkTensor(MECHANISM, 'state.numerator', state.numerator, ['B', 'H', 'V'], extents);
  }
  const setting = (name: string, right: boolean, wanted: string, given: unknown, remedy: string): void =>
    checkSetting(MECHANISM, name, right, wanted, given, remedy);
  setting('scale', Number.isFinite(scale), 'a finite number', scale, 'Leave it out for K^-0.5.');
  setting('form', form === 'parallel' || form === 'recurrent', 'parallel or recurrent', form, 'Leave it out for recurrent.');
  if (mask) {
    const fits = mask.rank === 2 && mask.shape[0] === extents.get('B') && mask.shape[1] === extents.get('T');
    setting('mask', fits, `[${extents.get('B')}, ${extents.get('T')}]`, `[${mask.shape.join(', ')}]`, 'Give one number per token.');
  }
}
