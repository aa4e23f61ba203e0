import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, keepValid } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import type { LinearAttentionResult } from '../linear-attention/op.ts';
import type { LinearAttentionState } from '../linear-attention/settings.ts';
import { taylorFeatureDim } from '../linear-attention/taylor-features.ts';
import { chunkForm } from './chunk.ts';
import { parallelForm } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

/** Tensors that `prefixLinearAttention` reads, all float32. */
export interface PrefixTensors {
  /** [B, T, Hq, d] */
  readonly query: tf.Tensor;
  /** [B, T, H, d], the causal keys; Hq is a multiple of H */
  readonly key: tf.Tensor;
  /** [B, T, H, V] */
  readonly value: tf.Tensor;
  /** [B, M, H, d], keys of the prefix, seen by every token; absent: no prefix, or it is in the state already */
  readonly prefixKey?: tf.Tensor;
  /** [B, M, H, V] */
  readonly prefixValue?: tf.Tensor;
}

/** Options of `prefixLinearAttention`; everything has a default. */
export interface PrefixOptions {
  /** state of an earlier call with the same `symmetric`, into which a prefix went already */
  readonly state?: LinearAttentionState;
  /** [B, T], 1 for tokens and 0 for padding; what stands at padding must be finite */
  readonly mask?: tf.Tensor;
  /** [B, M], 1 for tokens of the prefix and 0 for padding, so that each row may have a prefix of its own length */
  readonly prefixMask?: tf.Tensor;
  /** default after: padding changes nothing; before: padded keys are zeroed before the feature map, as the reference does, and count as phi(0) */
  readonly maskKeys?: 'after' | 'before';
  /** added to the denominator, default 1e-6 */
  readonly epsilon?: number;
  /** keep each product of two channels once in the state, default true; the result is the same */
  readonly symmetric?: boolean;
  /** default chunk */
  readonly form?: 'parallel' | 'chunk' | 'recurrent';
  /** tokens per chunk, default 64; a matter of speed */
  readonly chunkSize?: number;
}

/** What the forms read: checked, with defaults filled in. */
export interface PrefixCall {
  readonly query: tf.Tensor4D;
  readonly key: tf.Tensor4D;
  readonly value: tf.Tensor4D;
  readonly prefix: { readonly key: tf.Tensor4D; readonly value: tf.Tensor4D; readonly mask: tf.Tensor2D | null } | null;
  readonly mask: tf.Tensor2D | null;
  readonly memory: tf.Tensor4D | null;
  readonly symmetric: boolean;
  readonly epsilon: number;
  readonly chunkSize: number;
}

const MECHANISM = 'jrt-prefix-linear-attention';

/**
 * Linear attention with a prefix that every token sees: `o_i = phi(q_i) S_i / (phi(q_i) z_i + epsilon)`, where
 * `[S_i, z_i] = sum_{j < M} phi(k^e_j) [v^e_j, 1] + sum_{j <= i} phi(k_j) [v_j, 1]` and phi are second-order Taylor features.
 *
 * The sums of encoder and decoder add, so one state carries both, and decoding goes on without the prefix.
 *
 * @param tensors query [B, T, Hq, d], key [B, T, H, d], value [B, T, H, V], prefixKey [B, M, H, d] and prefixValue [B, M, H, V]
 * @param options state, masks, form and the rest; see `PrefixOptions` for the defaults
 * @returns output [B, T, Hq, V] and the state, `memory` [B, H, F, V + 1], F = 1 + d + d (d + 1) / 2 when symmetric and 1 + d + d^2 when not
 * @throws SeqLoomError on a wrong rank, shape, dtype, or options that do not go together
 * @see Arora et al. 2024, arXiv 2407.05483
 */
export function prefixLinearAttention(tensors: PrefixTensors, options: PrefixOptions = {}): LinearAttentionResult {
  check(tensors, options);
  const { state, mask = null, prefixMask = null, maskKeys = 'after', form = 'chunk' } = options;
  const { query, key, value, prefixKey, prefixValue } = tensors;
  const { output, memory } = tf.tidy(() => {
    const before = maskKeys === 'before';
    const call = {
      query,
      key: before ? keepValid(key, mask) : key,
      value,
      mask: before ? null : mask && tf.cast(mask, 'float32'),
      prefix: prefixKey
        ? {
            key: before ? keepValid(prefixKey, prefixMask) : prefixKey,
            value: prefixValue,
            mask: before ? null : prefixMask && tf.cast(prefixMask, 'float32'),
          }
        : null,
      memory: state?.memory ?? null,
      symmetric: options.symmetric ?? true,
      epsilon: options.epsilon ?? 1e-6,
      chunkSize: options.chunkSize ?? 64,
    } as PrefixCall;
    if (form === 'parallel') return parallelForm(call);
    return form === 'chunk' ? chunkForm(call) : recurrentForm(call);
  });
  return { output, state: { memory } };
}

function check({ query, key, value, prefixKey, prefixValue }: PrefixTensors, options: PrefixOptions): void {
  const { state, mask, prefixMask, maskKeys = 'after', epsilon = 1e-6, symmetric = true, form = 'chunk', chunkSize = 64 } = options;
  const extents: Extents = new Map<string, number>();
  const setting = (name: string, right: boolean, wanted: string, given: unknown, remedy: string): void =>
    checkSetting(MECHANISM, name, right, wanted, given, remedy);
  checkTensor(MECHANISM, 'query', query, ['B', 'T', 'Hq', 'd'], extents);
  checkTensor(MECHANISM, 'key', key, ['B', 'T', 'H', 'd'], extents);
  checkTensor(MECHANISM, 'value', value, ['B', 'T', 'H', 'V'], extents);
  const [queryHeads, heads] = [query.shape[2]!, key.shape[2]!];
  setting('query', queryHeads % heads === 0, `of a multiple of ${heads} heads`, `${queryHeads} heads`, 'Group query heads evenly.');
  const side = prefixKey ? 'given' : 'none';
  setting('prefixValue', !prefixKey === !prefixValue, 'given with prefixKey, and only then', side, 'Pass both or neither.');
  if (prefixKey && prefixValue) {
    checkTensor(MECHANISM, 'prefixKey', prefixKey, ['B', 'M', 'H', 'd'], extents);
    checkTensor(MECHANISM, 'prefixValue', prefixValue, ['B', 'M', 'H', 'V'], extents);
  }
  setting('prefixMask', !prefixMask || !!prefixKey, 'left out without a prefix', 'a mask', 'Pass prefixKey and prefixValue as well.');
  for (const [name, given, time] of [
    ['mask', mask, 'T'],
    ['prefixMask', prefixMask, 'M'],
  ] as const) {
    const shape = [extents.get('B'), extents.get(time)];
    const fits = !given || (given.rank === 2 && given.shape[0] === shape[0] && given.shape[1] === shape[1]);
    setting(
      name,
      fits,
      `[${shape.join(', ')}], 1 for tokens and 0 for padding`,
      given && `[${given.shape.join(', ')}]`,
      'One number per token.',
    );
  }
  if (state) {
    extents.set('F', taylorFeatureDim(query.shape[3]!, symmetric)).set('V + 1', value.shape[3]! + 1);
    checkTensor(MECHANISM, 'state.memory', state.memory, ['B', 'H', 'F', 'V + 1'], extents);
  }
  setting('maskKeys', maskKeys === 'after' || maskKeys === 'before', 'after or before', maskKeys, 'Leave it out for after.');
  setting('epsilon', epsilon > 0 && Number.isFinite(epsilon), 'above 0 and finite', epsilon, 'Leave it out for 1e-6.');
  setting('form', ['parallel', 'chunk', 'recurrent'].includes(form), 'parallel, chunk or recurrent', form, 'Leave it out for chunk.');
  setting('chunkSize', Number.isInteger(chunkSize) && chunkSize >= 1, 'a whole number from 1', chunkSize, 'Leave it out for 64.');
}
