import type { LinearAttentionRule } from '@seqloom/core';
import type { HostArray } from '../measure/tfjs.ts';
import type { OnnxCall } from './onnxruntime.ts';

/** [B, T, H, D] as the packed [B, T, H D] of the runtime's operators. */
function packed({ shape, data }: HostArray): HostArray {
  const [batch, length] = shape as [number, number];
  return { shape: [batch, length, data.length / (batch * length)], data };
}

/**
 * `com.microsoft.LinearAttention` on the inputs of our contract; decay is in log space there too.
 *
 * @param state [B, H, Dk, Dv] to continue from
 */
export function onnxLinearAttention(
  inputs: Readonly<Record<string, HostArray>>,
  rule: LinearAttentionRule,
  state: HostArray | null = null,
): OnnxCall {
  const { query, key, value, logDecay, beta } = inputs;
  const optional = [state, logDecay ? packed(logDecay) : null, beta ? packed(beta) : null];
  // trailing optional inputs are left out altogether
  while (optional.at(-1) === null) optional.pop();
  const [, , heads, dim] = query!.shape as [number, number, number, number];
  return {
    operator: 'LinearAttention',
    domain: 'com.microsoft',
    inputs: [packed(query!), packed(key!), packed(value!), ...optional],
    outputs: ['output', 'state'],
    attributes: {
      q_num_heads: { int: heads },
      kv_num_heads: { int: key!.shape[2]! },
      update_rule: { string: rule },
      scale: { float: dim ** -0.5 },
    },
  };
}

/** Query, key and value of an attention, each [B, T, H, D]. */
export interface AttentionArrays {
  readonly query: HostArray;
  readonly key: HostArray;
  readonly value: HostArray;
}

/**
 * `com.microsoft.GroupQueryAttention`, which is causal, for a whole sequence or for tokens after a cache.
 *
 * @param options `window`: keys seen, self included; `cache`: keys and values [B, H, S, D] of the tokens before
 */
export function onnxGroupQueryAttention(
  { query, key, value }: AttentionArrays,
  options: { readonly window?: number | null; readonly cache?: readonly [HostArray, HostArray] } = {},
): OnnxCall {
  const { window = null, cache } = options;
  const total = query.shape[1]! + (cache ? cache[0].shape[2]! : 0);
  const [pastKey, pastValue] = cache ?? [null, null];
  return {
    operator: 'GroupQueryAttention',
    domain: 'com.microsoft',
    inputs: [
      packed(query),
      packed(key),
      packed(value),
      pastKey,
      pastValue,
      // the lengths of the rows less one, and the longest
      { shape: [1], data: Int32Array.of(total - 1) },
      { shape: [], data: Int32Array.of(total) },
    ],
    outputs: ['output', null, null],
    attributes: {
      num_heads: { int: query.shape[2]! },
      kv_num_heads: { int: key.shape[2]! },
      ...(window !== null && { local_window_size: { int: window } }),
    },
  };
}

/** `com.microsoft.MultiHeadAttention` with its causal flag. */
export function onnxMultiHeadAttention({ query, key, value }: AttentionArrays): OnnxCall {
  return {
    operator: 'MultiHeadAttention',
    domain: 'com.microsoft',
    inputs: [packed(query), packed(key), packed(value)],
    outputs: ['output'],
    attributes: { num_heads: { int: query.shape[2]! }, unidirectional: { int: 1 } },
  };
}
