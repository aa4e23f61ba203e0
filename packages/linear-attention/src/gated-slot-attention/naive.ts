/**
 * Gated slot attention and ABC, the specification in double precision.
 *
 * Glossary (Zhang et al. 2024, section 3; Peng et al. 2021, section 3; one head)
 *   query, key, value   q_t, k_t, v_t   [B, T, Hq, K], [B, T, H, K], [B, T, H, V]
 *   logDecay            log alpha_t     [B, T, H, M], one gate per slot
 *   write               s_t             weight of a token in every slot, 1 - alpha_t where not given
 *   slotLogits          ABC: phi_t = exp(logit), a slot being the mean of its past tokens with these weights
 *   keySlots            K~_t            diag(alpha_t) K~_{t-1} + s_t k_t^T, [B, H, M, K]
 *   valueSlots          V~_t            diag(alpha_t) V~_{t-1} + s_t v_t^T, [B, H, M, V]
 *   output              o_t             V~_t^T softmax(scale K~_t q_t)
 *   logNormaliser       z_t             ABC: log of the sum of phi_i over i <= t, [B, H, M]
 */
import type { Array64 } from '@seqloom/core';

/** Inputs of `naiveGatedSlotAttention`. */
export interface NaiveSlotInputs {
  readonly query: Array64;
  readonly key: Array64;
  readonly value: Array64;
  readonly logDecay: Array64;
  readonly write?: Array64;
  readonly keySlots?: Array64;
  readonly valueSlots?: Array64;
}

/** Inputs of `naiveBoundedMemoryControl`. */
export interface NaiveBoundedMemoryInputs {
  readonly query: Array64;
  readonly key: Array64;
  readonly value: Array64;
  readonly slotLogits: Array64;
  readonly keySlots?: Array64;
  readonly valueSlots?: Array64;
  readonly logNormaliser?: Array64;
}

/** What both return: output [B, T, Hq, V], key slots [B, H, M, K], value slots [B, H, M, V]. */
export interface NaiveSlots {
  readonly output: Array64;
  readonly keySlots: Array64;
  readonly valueSlots: Array64;
}

const start = (shape: number[], given: Array64 | undefined): Array64 => ({
  shape,
  data: given ? given.data.slice() : new Float64Array(shape.reduce((a, b) => a * b, 1)),
});

/** Token by token. */
export function naiveGatedSlotAttention(inputs: NaiveSlotInputs, scale: number): NaiveSlots {
  const { query, key, value, logDecay, write } = inputs;
  const [batch, length, queryHeads, keyDim] = query.shape as [number, number, number, number];
  const [heads, slots, valueDim] = [key.shape[2]!, logDecay.shape[3]!, value.shape[3]!];
  const keySlots = start([batch, heads, slots, keyDim], inputs.keySlots);
  const valueSlots = start([batch, heads, slots, valueDim], inputs.valueSlots);
  const output = start([batch, length, queryHeads, valueDim], undefined);
  const row = (array: Array64, ...place: number[]): Float64Array => {
    const width = array.shape.at(-1)!;
    const index = place.reduce((at, one, axis) => at * array.shape[axis]! + one, 0);
    return array.data.subarray(index * width, (index + 1) * width);
  };
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < length; t++) {
      for (let h = 0; h < heads; h++) {
        row(logDecay, b, t, h).forEach((logAlpha, m) => {
          const alpha = Math.exp(logAlpha);
          const s = write ? row(write, b, t, h)[m]! : -Math.expm1(logAlpha);
          const [slotKey, slotValue] = [row(keySlots, b, h, m), row(valueSlots, b, h, m)];
          row(key, b, t, h).forEach((k, d) => (slotKey[d] = alpha * slotKey[d]! + s * k));
          row(value, b, t, h).forEach((v, d) => (slotValue[d] = alpha * slotValue[d]! + s * v));
        });
      }
      for (let h = 0; h < queryHeads; h++) {
        const head = Math.floor((h * heads) / queryHeads);
        const logits = Array.from(
          { length: slots },
          (_, m) => scale * row(query, b, t, h).reduce((sum, q, d) => sum + q * row(keySlots, b, head, m)[d]!, 0),
        );
        const top = Math.max(...logits);
        const powers = logits.map((logit) => Math.exp(logit - top));
        const total = powers.reduce((a, c) => a + c, 0);
        const out = row(output, b, t, h);
        powers.forEach((power, m) => row(valueSlots, b, head, m).forEach((v, d) => (out[d]! += (power / total) * v)));
      }
    }
  }
  return { output, keySlots, valueSlots };
}

/** ABC: the same slots with decays and weights from a running sum of exp(slotLogits) per slot. */
export function naiveBoundedMemoryControl(
  inputs: NaiveBoundedMemoryInputs,
  scale: number,
): NaiveSlots & { readonly logNormaliser: Array64 } {
  const { slotLogits, logNormaliser: before, ...rest } = inputs;
  const [batch, length, heads, slots] = slotLogits.shape as [number, number, number, number];
  const size = heads * slots;
  const logNormaliser = start([batch, heads, slots], before);
  if (!before) logNormaliser.data.fill(-Infinity);
  const [logDecay, write] = [start([batch, length, heads, slots], undefined), start([batch, length, heads, slots], undefined)];
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < length; t++) {
      for (let at = 0; at < size; at++) {
        const place = (b * length + t) * size + at;
        const [z, logit] = [logNormaliser.data[b * size + at]!, slotLogits.data[place]!];
        const next = Math.max(z, logit) + Math.log1p(Math.exp(-Math.abs(z - logit)));
        logDecay.data[place] = z - next;
        write.data[place] = Math.exp(logit - next);
        logNormaliser.data[b * size + at] = next;
      }
    }
  }
  return { ...naiveGatedSlotAttention({ ...rest, logDecay, write }, scale), logNormaliser };
}
