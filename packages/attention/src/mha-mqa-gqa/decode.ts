import type * as tf from '@tensorflow/tfjs-core';
import { softmaxAttention, tidy } from '@seqloom/core';
import { alignedPositions, appendKv, existingKeys, joinTime } from '../kv-cache/kv-cache.ts';
import type { KvCache } from '../kv-cache/kv-cache.ts';
import type { AttentionInputs, AttentionOptions } from './parallel.ts';

/**
 * Causal attention of one or more new tokens to a cache and to one another.
 *
 * Fed piece by piece it gives what `multiHeadAttention` with `causal` gives in one call, also where rows have padding on the right.
 *
 * @param inputs query, key and value of the new tokens, [B, T, ., .]
 * @param cache of the tokens before; stays the caller's
 * @param options scale, softCap; `valid` [B, T] and `lengths` [B] when rows have padding on the right
 * @returns output [B, T, H, Dv] (arbitrary at padding) and the new cache, both owned by the caller
 * @throws SeqLoomError when the tokens do not fit the cache
 */
export function cachedAttention(
  inputs: AttentionInputs,
  cache: KvCache,
  options: Omit<AttentionOptions, 'causal'> & { readonly valid?: tf.Tensor2D | null; readonly lengths?: tf.Tensor1D | null } = {},
): { output: tf.Tensor4D; cache: KvCache } {
  const { lengths = null } = options;
  return tidy(() => {
    const next = appendKv(cache, { key: inputs.key, value: inputs.value, lengths });
    // without padding the new cache is what the tokens attend to: one copy, not two
    return { output: attend(inputs, cache, options, lengths ? joined(inputs, cache) : next), cache: next };
  });
}

/**
 * The attention of `cachedAttention` alone, for a layer that reads a cache which another one extends.
 *
 * @param inputs query, key and value of the new tokens, [B, T, ., .]
 * @param cache of the tokens before; stays the caller's
 * @param options scale, softCap; `valid` [B, T] when rows have padding on the right
 * @returns output [B, T, H, Dv] (arbitrary at padding), owned by the caller
 * @throws SeqLoomError when shapes or options do not fit
 */
export function attendCache(
  inputs: AttentionInputs,
  cache: KvCache,
  options: Omit<AttentionOptions, 'causal'> & { readonly valid?: tf.Tensor2D | null } = {},
): tf.Tensor4D {
  return tidy(() => attend(inputs, cache, options, joined(inputs, cache)));
}

/** Keys and values of the cache and of the new tokens. */
function joined(inputs: AttentionInputs, cache: KvCache): Pick<KvCache, 'key' | 'value'> {
  return { key: joinTime(cache.key, inputs.key), value: joinTime(cache.value, inputs.value) };
}

function attend(
  inputs: AttentionInputs,
  cache: KvCache,
  options: Omit<AttentionOptions, 'causal'> & { readonly valid?: tf.Tensor2D | null },
  { key, value }: Pick<KvCache, 'key' | 'value'>,
): tf.Tensor4D {
  const { valid = null, scale, softCap } = options;
  const [length, fresh] = [cache.key.shape[1]!, inputs.key.shape[1]!];
  // a sequence from its start without padding has no missing keys
  const keyPositions = length === 0 && !valid ? {} : { keyPositions: alignedPositions(existingKeys(cache.position, length, fresh, valid)) };
  return softmaxAttention({ ...inputs, key, value, ...keyPositions }, { causal: true, aligned: true, scale, softCap }).output;
}
