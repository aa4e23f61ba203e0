import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import type { RatState } from './chunk-cache.ts';
import { chunkForm } from './chunk.ts';
import type { RatResult } from './chunk.ts';
import { recurrentForm } from './recurrent.ts';

const MECHANISM = 'rat';

/** Tensors that `rat` reads, all float32 [B, T, H, D]. */
export interface RatTensors {
  readonly query: tf.Tensor;
  readonly key: tf.Tensor;
  readonly value: tf.Tensor;
  /** log of the gate of both recurrences, at most 0 */
  readonly logDecay: tf.Tensor;
}

/** Options of `rat`; everything has a default. */
export interface RatOptions {
  /** tokens per chunk, default 16; it changes the result */
  readonly chunkSize?: number;
  /** state of an earlier call with the same chunk size */
  readonly state?: RatState;
  /** factor of the scores, default D^-0.5 */
  readonly scale?: number;
  /** base of the rotary positions, which count chunks, default 10000; null: no positions */
  readonly rotaryBase?: number | null;
  /** default chunk; both give the same */
  readonly form?: 'chunk' | 'recurrent';
  /** valid tokens per row, with padding on the right, float32 [B]; what stands at padding must be finite */
  readonly lengths?: tf.Tensor;
}

/**
 * Recurrence within chunks, softmax attention over chunks: keys and values run through `x~_t = g_t x~_{t-1} + (1 - g_t) x_t`, from nothing at
 * the start of every chunk, and a query attends to the pairs at the ends of earlier chunks and to the running pair.
 *
 * @param tensors query, key, value and logDecay, log g, [B, T, H, D]
 * @param options chunkSize (16), state, scale (D^-0.5), rotaryBase (10000), form (chunk), lengths
 * @returns output [B, T, H, D] and the state after the last valid token (see `RatState`); the caller owns both
 * @throws SeqLoomError on a wrong rank, shape, dtype or option
 * @see Wei et al. 2025, arXiv 2507.04416
 */
export function rat(tensors: RatTensors, options: RatOptions = {}): RatResult {
  const { query, key, value, logDecay } = tensors;
  check(tensors, options);
  const [batch, , heads, width] = query.shape as [number, number, number, number];
  const { chunkSize = 16, scale = width ** -0.5, rotaryBase = 10000, form = 'chunk', lengths = null } = options;
  return tidy(() => {
    const state = options.state ?? emptyState(batch, heads, width);
    const call = { query, key, value, logDecay, state, chunkSize, scale, rotaryBase, lengths };
    return form === 'recurrent' ? recurrentForm(call) : chunkForm(call);
  });
}

function emptyState(batch: number, heads: number, width: number): RatState {
  const zeros = (...shape: number[]): tf.Tensor => tf.zeros(shape);
  return {
    key: zeros(batch, 0, heads, width),
    value: zeros(batch, 0, heads, width),
    runningKey: zeros(batch, heads, width),
    runningValue: zeros(batch, heads, width),
    position: zeros(batch),
    phase: zeros(batch, 0, 0),
  };
}

function check(tensors: RatTensors, options: RatOptions): void {
  const extents: Extents = new Map<string, number>();
  const { query, key, value, logDecay } = tensors;
  for (const [name, tensor] of Object.entries({ query, key, value, logDecay })) {
    checkTensor(MECHANISM, name, tensor, ['B', 'T', 'H', 'D'], extents);
  }
  const { chunkSize = 16, state, scale = 1, rotaryBase = 10000, form = 'chunk', lengths } = options;
  const setting = (name: string, right: boolean, wanted: string, given: unknown, remedy: string): void =>
    checkSetting(MECHANISM, name, right, wanted, given, remedy);
  setting('chunkSize', Number.isInteger(chunkSize) && chunkSize >= 1, 'a whole number from 1', chunkSize, 'Leave it out for 16.');
  setting('scale', Number.isFinite(scale), 'a finite number', scale, 'Leave it out for D^-0.5.');
  setting('form', form === 'chunk' || form === 'recurrent', 'chunk or recurrent', form, 'Leave it out for chunk.');
  if (rotaryBase !== null) {
    setting(
      'rotaryBase',
      Number.isFinite(rotaryBase) && rotaryBase > 0,
      'above 0 and finite, or null',
      rotaryBase,
      'Leave it out for 10000.',
    );
    const width = extents.get('D')!;
    setting('query', width % 2 === 0, 'of an even head width for rotary positions', width, 'Choose an even width, or rotaryBase: null.');
  }
  if (lengths) checkTensor(MECHANISM, 'lengths', lengths, ['B'], extents);
  if (!state) return;
  checkTensor(MECHANISM, 'state.key', state.key, ['B', 'N?', 'H', 'D'], extents);
  checkTensor(MECHANISM, 'state.value', state.value, ['B', 'N?', 'H', 'D'], extents);
  checkTensor(MECHANISM, 'state.runningKey', state.runningKey, ['B', 'H', 'D'], extents);
  checkTensor(MECHANISM, 'state.runningValue', state.runningValue, ['B', 'H', 'D'], extents);
  checkTensor(MECHANISM, 'state.position', state.position, ['B'], extents);
  checkTensor(MECHANISM, 'state.phase', state.phase, ['B', 'E?', 0], extents);
}
