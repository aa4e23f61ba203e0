import { checkSetting, checkTensor, keepValid, softplus } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { checkPerToken } from '../check-layout.ts';
import { chunkForm } from './chunk.ts';
import type { Recurred, Recurrence } from './chunk.ts';
import { recurrentForm } from './recurrent.ts';
import { writeScale } from './write-scale.ts';

/** Tensors that `rgLru` reads, all float32. */
export interface RgLruTensors {
  /** x, [B, T, W] */
  readonly input: tf.Tensor;
  /** gate of the input before its sigmoid, [B, T, W] */
  readonly inputGate: tf.Tensor;
  /** gate of the decay before its sigmoid, [B, T, W] */
  readonly recurrenceGate: tf.Tensor;
  /** Lambda, [W]: a fully open gate decays by exp(-8 softplus(Lambda)) */
  readonly decayParameter: tf.Tensor;
}

/** What the unit carries from piece to piece. */
export interface RgLruState {
  readonly [name: string]: tf.Tensor;
  /** h, [B, W] */
  readonly hidden: tf.Tensor;
}

/** Settings of `rgLru`; everything has a default. */
export interface RgLruSettings {
  /** state of an earlier call; without it the first token begins a sequence */
  readonly state?: RgLruState;
  /** [B, T], 1 where a sequence begins, which forgets what was before and takes the token in whole; default: none with a state, else the first */
  readonly reset?: tf.Tensor;
  /** default chunk */
  readonly form?: 'chunk' | 'recurrent';
  /** [B, T], 1 for tokens and 0 for padding, which leaves the state as it is; what stands at padding must be finite */
  readonly mask?: tf.Tensor;
}

const MECHANISM = 'rglru-griffin';

/**
 * The real-gated linear recurrent unit: `h_t = a_t h_{t-1} + sqrt(1 - a_t^2) (sigmoid(i) x_t)` with `log a_t = -8 sigmoid(r) softplus(Lambda)`.
 *
 * @param tensors input, inputGate and recurrenceGate [B, T, W], decayParameter [W]
 * @param settings state, reset, form and mask; see `RgLruSettings` for the defaults
 * @returns output [B, T, W], which is h at every token, and the state after the last token, `hidden` [B, W]; both have gradients and are the
 *   caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see De et al. 2024, arXiv 2402.19427
 */
export function rgLru(tensors: RgLruTensors, settings: RgLruSettings = {}): { output: tf.Tensor; state: RgLruState } {
  check(tensors, settings);
  const { input, inputGate, recurrenceGate, decayParameter } = tensors;
  const { state, form = 'chunk', mask } = settings;
  const [batch, length, width] = input.shape as [number, number, number];
  const { output, hidden } = tf.tidy((): Recurred => {
    const logDecay = tf.mul(tf.mul(tf.sigmoid(recurrenceGate), softplus(decayParameter)), -8);
    const reset = settings.reset ? tf.cast(settings.reset, 'float32') : state ? null : firstToken(batch, length);
    let [decay, scale] = [tf.exp(logDecay), writeScale(logDecay)];
    if (reset) {
      const begins = tf.reshape(reset, [batch, length, 1]);
      const goesOn = tf.sub(1, begins);
      decay = tf.mul(decay, goesOn);
      scale = tf.add(tf.mul(scale, goesOn), begins);
    }
    if (mask) decay = tf.add(keepValid(decay, mask), tf.sub(1, tf.reshape(tf.cast(mask, 'float32'), [batch, length, 1])));
    const recurrence: Recurrence = {
      decay,
      written: keepValid(tf.mul(scale, tf.mul(tf.sigmoid(inputGate), input)), mask ?? null),
      hidden: state ? state.hidden : tf.zeros([batch, width]),
    };
    return form === 'chunk' ? chunkForm(recurrence) : recurrentForm(recurrence);
  });
  return { output, state: { hidden } };
}

function firstToken(batch: number, length: number): tf.Tensor {
  const first = tf.cast(tf.less(tf.range(0, length, 1, 'float32'), 1), 'float32');
  return tf.add(tf.zeros([batch, length]), first);
}

function check(tensors: RgLruTensors, { state, reset, form = 'chunk', mask }: RgLruSettings): void {
  const { input, inputGate, recurrenceGate, decayParameter } = tensors;
  const extents: Extents = new Map<string, number>();
  const wide = ['batch', 'time', 'width'];
  checkTensor(MECHANISM, 'input', input, wide, extents);
  checkTensor(MECHANISM, 'inputGate', inputGate, wide, extents);
  checkTensor(MECHANISM, 'recurrenceGate', recurrenceGate, wide, extents);
  checkTensor(MECHANISM, 'decayParameter', decayParameter, ['width'], extents);
  if (state) checkTensor(MECHANISM, 'state.hidden', state.hidden, ['batch', 'width'], extents);
  checkPerToken(MECHANISM, input, { reset, mask });
  checkSetting(MECHANISM, 'form', form === 'chunk' || form === 'recurrent', 'chunk or recurrent', form, 'Choose one of its forms.');
}
