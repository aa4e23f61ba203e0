import * as tf from '@tensorflow/tfjs-core';
import { checkTensor, keepValid, tidy } from '@seqloom/core';
import { EMPTY_LOG, runningSoftmax } from '../linear-attention/efficient-keys.ts';
import { checkSlots, runSlots } from './gated-slot-attention.ts';
import type { GatedSlotOptions, GatedSlotResult, GatedSlotState } from './gated-slot-attention.ts';

/** Tensors that `boundedMemoryControl` reads, all float32. */
export interface BoundedMemoryTensors {
  /** [B, T, Hq, K]; Hq is a multiple of H */
  readonly query: tf.Tensor;
  /** [B, T, H, K] */
  readonly key: tf.Tensor;
  /** [B, T, H, V] */
  readonly value: tf.Tensor;
  /** log of the weight of the token in every slot, [B, T, H, M] */
  readonly slotLogits: tf.Tensor;
}

/** What ABC carries from piece to piece. */
export interface BoundedMemoryState extends GatedSlotState {
  /** log of the sum of weights in every slot, [B, H, M]; -1e30 while there are none */
  readonly logNormaliser: tf.Tensor;
}

/**
 * Attention with bounded-memory control (ABC): slots are running means of keys and values, `K~_t = sum_i phi_i k_i^T / sum_i phi_i` with
 * `phi_i = exp(slotLogits_i)` per slot, `V~_t` alike, and `o_t = V~_t^T softmax(scale K~_t q_t)`.
 *
 * Gated slot attention with `logDecay_t = z_{t-1} - z_t` and `write_t = exp(slotLogits_t - z_t)`, z_t being the log of the sum so far.
 *
 * @param tensors query [B, T, Hq, K], key [B, T, H, K], value [B, T, H, V], slotLogits [B, T, H, M]
 * @param options state, scale (K^-0.5), form (chunk), chunkSize (64), mask
 * @returns output [B, T, Hq, V] and the state after the last token: `keySlots`, `valueSlots` and `logNormaliser` [B, H, M]
 * @throws SeqLoomError on a wrong rank, shape, dtype or option
 * @see Peng et al. 2021, "ABC: Attention with Bounded-memory Control", arXiv 2110.02488
 */
export function boundedMemoryControl(
  tensors: BoundedMemoryTensors,
  options: GatedSlotOptions<BoundedMemoryState> = {},
): GatedSlotResult<BoundedMemoryState> {
  const extents = checkSlots(tensors, 'slotLogits', options);
  const { state, mask } = options;
  if (state) checkTensor('gated-slot-attention', 'state.logNormaliser', state.logNormaliser, ['B', 'H', 'M'], extents);
  const { slotLogits, ...rest } = tensors;
  return tidy(() => {
    const absent = mask && keepValid(tf.add(tf.zerosLike(slotLogits), EMPTY_LOG), tf.sub(1, tf.cast(mask, 'float32')));
    const logits = mask && absent ? tf.add(keepValid(slotLogits, mask), absent) : slotLogits;
    const { key: write, logDecay, logNormaliser } = runningSoftmax(logits as tf.Tensor4D, state?.logNormaliser);
    const result = runSlots({ ...rest, write, logDecay }, options as GatedSlotOptions);
    return { output: result.output, state: { ...result.state, logNormaliser } as BoundedMemoryState };
  });
}
