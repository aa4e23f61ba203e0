import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, keepValid, tidy } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import { chunkForm } from './chunk.ts';
import { recurrentForm } from './recurrent.ts';

const MECHANISM = 'gated-slot-attention';

/** Tensors that `gatedSlotAttention` reads, all float32. */
export interface GatedSlotTensors {
  /** [B, T, Hq, K]; Hq is a multiple of H */
  readonly query: tf.Tensor;
  /** [B, T, H, K] */
  readonly key: tf.Tensor;
  /** [B, T, H, V] */
  readonly value: tf.Tensor;
  /** log of what every slot keeps, at most 0, [B, T, H, M] */
  readonly logDecay: tf.Tensor;
  /** weight of the token in every slot, [B, T, H, M]; default 1 - exp(logDecay) */
  readonly write?: tf.Tensor;
}

/** What gated slot attention carries from piece to piece. */
export interface GatedSlotState {
  readonly [name: string]: tf.Tensor;
  /** [B, H, M, K] */
  readonly keySlots: tf.Tensor;
  /** [B, H, M, V] */
  readonly valueSlots: tf.Tensor;
}

/** Options of the slot ops; everything has a default. */
export interface GatedSlotOptions<State extends GatedSlotState = GatedSlotState> {
  /** state of an earlier call */
  readonly state?: State;
  /** factor of the slot scores, default K^-0.5; the GSA layer has 1 */
  readonly scale?: number;
  /** default chunk */
  readonly form?: 'chunk' | 'recurrent';
  /** tokens per chunk, default 64; a matter of speed, not of the result */
  readonly chunkSize?: number;
  /** [B, T], 1 for tokens and 0 for padding, which changes no slot; what stands there must be finite */
  readonly mask?: tf.Tensor;
}

/** Output and state of a slot op; the caller owns both. */
export interface GatedSlotResult<State extends GatedSlotState = GatedSlotState> {
  /** [B, T, Hq, V] */
  readonly output: tf.Tensor4D;
  readonly state: State;
}

/**
 * Attention over M slots that forget: `K~_t = diag(alpha_t) K~_{t-1} + s_t k_t^T`, `V~_t` alike, `o_t = V~_t^T softmax(scale K~_t q_t)`.
 *
 * @param tensors query [B, T, Hq, K], key [B, T, H, K], value [B, T, H, V], logDecay [B, T, H, M], and write s if it is not 1 - alpha
 * @param options state, scale (K^-0.5), form (chunk), chunkSize (64), mask
 * @returns output [B, T, Hq, V] and the slots after the last token, `keySlots` [B, H, M, K] and `valueSlots` [B, H, M, V]
 * @throws SeqLoomError on a wrong rank, shape, dtype or option
 * @see Zhang et al. 2024, arXiv 2409.07146
 */
export function gatedSlotAttention(tensors: GatedSlotTensors, options: GatedSlotOptions = {}): GatedSlotResult {
  checkSlots(tensors, 'logDecay', options);
  return runSlots(tensors, options);
}

/** The op on checked tensors and options. */
export function runSlots({ query, key, value, logDecay, write }: GatedSlotTensors, options: GatedSlotOptions): GatedSlotResult {
  const [batch, , heads, keyDim] = key.shape as [number, number, number, number];
  const { state, scale = keyDim ** -0.5, form, chunkSize = 64, mask = null } = options;
  return tidy(() => {
    const weights = write ?? tf.neg(tf.expm1(logDecay)); // 1 - exp, without a difference of near numbers
    const slots = logDecay.shape[3]!;
    const inputs = {
      query,
      key,
      value,
      write: keepValid(weights, mask),
      logDecay: keepValid(logDecay, mask),
      keySlots: state?.keySlots ?? tf.zeros([batch, heads, slots, keyDim]),
      valueSlots: state?.valueSlots ?? tf.zeros([batch, heads, slots, value.shape[3]!]),
    };
    const { output, keySlots, valueSlots } = form === 'recurrent' ? recurrentForm(inputs, scale) : chunkForm(inputs, scale, chunkSize);
    return { output, state: { keySlots, valueSlots } };
  });
}

/** Refuses what does not fit; `gate` names the tensor with one channel per slot. */
export function checkSlots(tensors: object, gate: 'logDecay' | 'slotLogits', options: GatedSlotOptions): Extents {
  const given = tensors as Readonly<Record<string, tf.Tensor>>;
  const extents: Extents = new Map<string, number>();
  checkTensor(MECHANISM, 'query', given['query'], ['B', 'T', 'Hq', 'K'], extents);
  checkTensor(MECHANISM, 'key', given['key'], ['B', 'T', 'H', 'K'], extents);
  checkTensor(MECHANISM, 'value', given['value'], ['B', 'T', 'H', 'V'], extents);
  checkTensor(MECHANISM, gate, given[gate], ['B', 'T', 'H', 'M'], extents);
  if (given['write']) checkTensor(MECHANISM, 'write', given['write'], ['B', 'T', 'H', 'M'], extents);
  const setting = (name: string, right: boolean, wanted: string, value: unknown, remedy: string): void =>
    checkSetting(MECHANISM, name, right, wanted, value, remedy);
  const [queryHeads, heads] = [extents.get('Hq')!, extents.get('H')!];
  setting('query', queryHeads % heads === 0, `of a multiple of ${heads} heads`, `${queryHeads} heads`, 'Group query heads evenly.');
  const { state, scale = 1, form = 'chunk', chunkSize = 64, mask } = options;
  if (state) {
    checkTensor(MECHANISM, 'state.keySlots', state.keySlots, ['B', 'H', 'M', 'K'], extents);
    checkTensor(MECHANISM, 'state.valueSlots', state.valueSlots, ['B', 'H', 'M', 'V'], extents);
  }
  setting('scale', Number.isFinite(scale), 'a finite number', scale, 'Leave it out for K^-0.5.');
  setting('form', form === 'chunk' || form === 'recurrent', 'chunk or recurrent', form, 'Leave it out for chunk.');
  setting('chunkSize', Number.isInteger(chunkSize) && chunkSize >= 1, 'a whole number from 1', chunkSize, 'Leave it out for 64.');
  if (mask) {
    const fits = mask.rank === 2 && mask.shape[0] === extents.get('B') && mask.shape[1] === extents.get('T');
    setting('mask', fits, `[${extents.get('B')}, ${extents.get('T')}]`, `[${mask.shape.join(', ')}]`, 'Give one number per token.');
  }
  return extents;
}
