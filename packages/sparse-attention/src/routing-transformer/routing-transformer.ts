import type * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import { commitmentLoss, unitVectors } from './clusters.ts';
import { gatheredForm } from './gathered.ts';
import { parallelForm } from './parallel.ts';

/** Tensors of `routingAttention`, float32. */
export interface RoutingInputs {
  /** [B, T, H, D] */
  readonly query: tf.Tensor;
  /** [B, S, H, D] */
  readonly key: tf.Tensor;
  /** [B, S, H, Dv] */
  readonly value: tf.Tensor;
  /** [H, C, D], rows near length 1 */
  readonly centroids: tf.Tensor;
  /** [H, C, M, D], learned keys that every query of a cluster sees */
  readonly memoryKey?: tf.Tensor | undefined;
  /** [H, C, M, Dv] */
  readonly memoryValue?: tf.Tensor | undefined;
}

/** Options of `routingAttention`. */
export interface RoutingOptions {
  /** w, queries (and keys) per cluster */
  readonly window: number;
  /** keys per cluster when they are another sequence; default w */
  readonly keyWindow?: number | undefined;
  /** hide keys after the query, by index; what a cluster holds still depends on the whole sequence; default false */
  readonly causal?: boolean | undefined;
  /** route by queries alone and bring keys to length 1; a token reads itself only where it sees nothing else; default false */
  readonly sharedQueryKey?: boolean | undefined;
  /** default D^-0.5 */
  readonly scale?: number | undefined;
  /** β of the commitment loss, default 1e-4 */
  readonly commitment?: number | undefined;
  /** default gathered; parallel computes every pair for every cluster */
  readonly form?: 'gathered' | 'parallel' | undefined;
  /** [B, T], 1 for tokens and 0 for padding */
  readonly mask?: tf.Tensor | undefined;
  /** [B, S], of the other sequence; default `mask` where S = T */
  readonly keyMask?: tf.Tensor | undefined;
}

const MECHANISM = 'routing-transformer';

/**
 * Routing attention as published: each centroid takes the w nearest queries and the w nearest keys of the sequence, attention is exact
 * within a cluster, and a token's output is the mean over the clusters that hold it (zero in none).
 *
 * With `causal` a query reads no later key, but which tokens a cluster holds depends on later ones too: outputs of a prefix differ. For a
 * causal model that decodes use `recentRouting`.
 *
 * @param inputs query, key, value, centroids, and memories (needed when causal without shared queries and keys)
 * @param options window, causality, sharing, scale, padding
 * @returns output [B, T, H, Dv] and the commitment loss (a scalar over all tokens, padding included), owned by the caller; centroids get
 *   no gradient
 * @throws SeqLoomError when shapes, dtypes or options do not fit
 * @see Roy et al. 2020, arXiv 2003.05997
 */
export function routingAttention(inputs: RoutingInputs, options: RoutingOptions): { output: tf.Tensor; commitmentLoss: tf.Scalar } {
  const { query, value, centroids, memoryKey, memoryValue } = inputs;
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'query', query, ['batch', 'queries', 'heads', 'head dim'], extents);
  checkTensor(MECHANISM, 'key', inputs.key, ['batch', 'keys', 'heads', 'head dim'], extents);
  checkTensor(MECHANISM, 'value', value, ['batch', 'keys', 'heads', 'value dim'], extents);
  checkTensor(MECHANISM, 'centroids', centroids, ['heads', 'clusters', 'head dim'], extents);
  checkSetting(MECHANISM, 'memoryValue', !memoryKey === !memoryValue, 'given together with memoryKey', !!memoryValue, 'Give both or none.');
  if (memoryKey) checkTensor(MECHANISM, 'memoryKey', memoryKey, ['heads', 'clusters', 'memories', 'head dim'], extents);
  if (memoryValue) checkTensor(MECHANISM, 'memoryValue', memoryValue, ['heads', 'clusters', 'memories', 'value dim'], extents);
  const { window, keyWindow = window, causal = false, sharedQueryKey = false, form = 'gathered', commitment, mask } = options;
  const [batch, length, , headDim] = query.shape as [number, number, number, number];
  const keys = value.shape[1]!;
  for (const [name, size] of Object.entries({ window, keyWindow }))
    checkSetting(
      MECHANISM,
      `options.${name}`,
      Number.isInteger(size) && size >= 1,
      'a whole number of at least 1',
      size,
      'It counts tokens.',
    );
  for (const [name, on] of Object.entries({ causal, sharedQueryKey }))
    checkSetting(
      MECHANISM,
      `options.${name}`,
      !on || keys === length,
      'false for another sequence of keys',
      on,
      'Use it for one sequence.',
    );
  const alone = causal && !sharedQueryKey && !memoryKey;
  checkSetting(MECHANISM, 'memoryKey', !alone, 'given when causal without sharing', 'none', 'A query could find no key: add one memory.');
  checkSetting(
    MECHANISM,
    'options.form',
    ['gathered', 'parallel'].includes(form),
    'gathered or parallel',
    form,
    'Leave it out for gathered.',
  );
  const scale = options.scale ?? headDim ** -0.5;
  checkSetting(MECHANISM, 'options.scale', Number.isFinite(scale), 'a finite number', scale, 'Leave it out for 1 / sqrt(D).');
  if (mask) checkTensor(MECHANISM, 'options.mask', mask, [batch, length]);
  const keyMask = options.keyMask ?? (keys === length ? mask : undefined);
  if (keyMask) checkTensor(MECHANISM, 'options.keyMask', keyMask, [batch, keys]);
  return tidy(() => {
    const key = sharedQueryKey ? unitVectors(inputs.key) : inputs.key;
    const call = {
      ...{ query, key, value, centroids, memoryKey, memoryValue, mask, keyMask, causal, sharedQueryKey, scale },
      window: Math.min(window, length),
      keyWindow: Math.min(sharedQueryKey ? window : keyWindow, keys),
    };
    return {
      output: (form === 'gathered' ? gatheredForm : parallelForm)(call),
      commitmentLoss: commitmentLoss({ points: sharedQueryKey ? [query] : [query, key], centroids }, commitment),
    };
  });
}
