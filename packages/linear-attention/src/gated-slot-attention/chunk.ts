import { linearAttentionUpdate } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { slotScores } from './slot-scores.ts';
import type { SlotKeys } from './slot-scores.ts';

/** What every form works on: checked, without padding. */
export interface Slots extends SlotKeys {
  /** [B, T, H, V] */
  readonly value: tf.Tensor;
  /** [B, H, M, V] */
  readonly valueSlots: tf.Tensor;
}

/** Output [B, T, Hq, V], and the slots after the last token. */
export interface SlotSums {
  readonly output: tf.Tensor4D;
  readonly keySlots: tf.Tensor4D;
  readonly valueSlots: tf.Tensor4D;
}

/**
 * The chunked form: two passes of the gated rule, whose key channels are the slots, joined by a softmax over them.
 *
 * @param scale factor of the scores
 * @param chunkSize tokens per chunk; a matter of speed
 */
export function chunkForm({ value, valueSlots, ...keys }: Slots, scale: number, chunkSize: number): SlotSums {
  const first = slotScores(keys, scale, chunkSize);
  const { output, state } = linearAttentionUpdate(
    { query: tf.softmax(first.scores), key: keys.write, value, logDecay: keys.logDecay, state: valueSlots },
    { updateRule: 'gated', scale: 1, chunkSize },
  );
  return { output, keySlots: first.keySlots, valueSlots: state };
}
