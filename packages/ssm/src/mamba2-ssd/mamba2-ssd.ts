import { checkSetting, checkTensor, keepValid, softplus } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { checkGroups, checkPerToken } from '../check-layout.ts';
import { chunkForm } from './chunk.ts';
import type { DualityReads, DualitySteps } from './chunk.ts';
import { parallelForm } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

/** Tensors that `stateSpaceDuality` reads, all float32. */
export interface DualityTensors {
  /** x, [B, T, H, P] */
  readonly input: tf.Tensor;
  /** step size of every head before bias, softplus and limits, [B, T, H] */
  readonly delta: tf.Tensor;
  /** A, negative, [H] */
  readonly transition: tf.Tensor;
  /** B, what of the input enters the state, [B, T, G, N]; G divides H, and head h reads group floor(h G / H) */
  readonly inputMatrix: tf.Tensor;
  /** C, what of the state is read, [B, T, G, N] */
  readonly outputMatrix: tf.Tensor;
  /** D, weight of the input that goes straight to the output, [H] or [H, P] */
  readonly skip?: tf.Tensor | undefined;
  /** z, the output is multiplied by silu(z), [B, T, H, P] */
  readonly gate?: tf.Tensor | undefined;
  /** added to delta, [H] */
  readonly deltaBias?: tf.Tensor | undefined;
}

/** What the op carries from piece to piece. */
export interface DualityState {
  readonly [name: string]: tf.Tensor;
  /** h, [B, H, N, P] */
  readonly memory: tf.Tensor;
}

/** Settings of `stateSpaceDuality`; everything has a default. */
export interface DualitySettings {
  /** the step is softplus(delta + bias), default true; false: delta + bias itself, which must then not be negative */
  readonly deltaSoftplus?: boolean;
  /** steps below the first or above the second are set to it, default 0 and Infinity */
  readonly deltaLimits?: readonly [number, number];
  /** state of an earlier call; default zeros */
  readonly state?: DualityState;
  /** default chunk */
  readonly form?: 'parallel' | 'chunk' | 'recurrent';
  /** tokens per chunk, default 64; a matter of speed */
  readonly chunkSize?: number;
  /** [B, T], 1 for tokens and 0 for padding, which leaves the state as it is; what stands at padding must be finite */
  readonly mask?: tf.Tensor;
}

const MECHANISM = 'mamba2-ssd';

/**
 * The state space of Mamba-2, one decay per head and token: `h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t x_t^T` with
 * `Delta = clamp(softplus(delta + bias))`, and `y_t = (h_t^T C_t + D x_t) * silu(z_t)`.
 *
 * @param tensors input [B, T, H, P], delta [B, T, H], transition [H], inputMatrix and outputMatrix [B, T, G, N], and optionally skip [H] or
 *   [H, P], deltaBias [H] and gate [B, T, H, P]
 * @param settings softplus, limits, state, form and mask; see `DualitySettings` for the defaults
 * @returns output [B, T, H, P] and the state after the last token, `memory` [B, H, N, P]; both have gradients and are the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see Dao & Gu 2024, arXiv 2405.21060
 */
export function stateSpaceDuality(tensors: DualityTensors, settings: DualitySettings = {}): { output: tf.Tensor; state: DualityState } {
  check(tensors, settings);
  const { input, delta, transition, inputMatrix, outputMatrix, skip, gate, deltaBias } = tensors;
  const { deltaSoftplus = true, deltaLimits = [0, Infinity], state, form = 'chunk', chunkSize = 64, mask } = settings;
  const [batch, length, heads, width] = input.shape as [number, number, number, number];
  const { output, memory } = tf.tidy((): DualityReads => {
    const raw = deltaBias ? tf.add(delta, deltaBias) : delta;
    const open = deltaSoftplus ? softplus(raw) : raw;
    const [least, most] = deltaLimits;
    const step = least > 0 || most < Infinity ? tf.clipByValue(open, least, Math.min(most, 3e38)) : open;
    // a step of no time neither decays nor adds
    const live = keepValid(step, mask ?? null);
    const steps: DualitySteps = {
      drive: tf.mul(input, tf.reshape(live, [batch, length, heads, 1])),
      logDecay: tf.mul(live, transition),
      inputMatrix,
      outputMatrix,
      memory: state ? state.memory : tf.zeros([batch, heads, inputMatrix.shape[3]!, width]),
    };
    const reads = form === 'chunk' ? chunkForm(steps, chunkSize) : form === 'parallel' ? parallelForm(steps) : recurrentForm(steps);
    const straight = skip && tf.mul(input, skip.rank === 1 ? tf.reshape(skip, [heads, 1]) : skip);
    const sum = straight ? tf.add(reads.output, straight) : reads.output;
    return { output: gate ? tf.mul(sum, tf.mul(gate, tf.sigmoid(gate))) : sum, memory: reads.memory };
  });
  return { output, state: { memory } };
}

function check(tensors: DualityTensors, settings: DualitySettings): void {
  const { input, delta, transition, inputMatrix, outputMatrix, skip, gate, deltaBias } = tensors;
  const { deltaLimits = [0, Infinity], state, form = 'chunk', chunkSize = 64, mask } = settings;
  const extents: Extents = new Map<string, number>();
  const wide = ['batch', 'time', 'heads', 'width'];
  const matrix = ['batch', 'time', 'groups', 'states'];
  checkTensor(MECHANISM, 'input', input, wide, extents);
  checkTensor(MECHANISM, 'delta', delta, ['batch', 'time', 'heads'], extents);
  checkTensor(MECHANISM, 'transition', transition, ['heads'], extents);
  checkTensor(MECHANISM, 'inputMatrix', inputMatrix, matrix, extents);
  checkTensor(MECHANISM, 'outputMatrix', outputMatrix, matrix, extents);
  if (skip) checkTensor(MECHANISM, 'skip', skip, skip.rank === 2 ? ['heads', 'width'] : ['heads'], extents);
  if (gate) checkTensor(MECHANISM, 'gate', gate, wide, extents);
  if (deltaBias) checkTensor(MECHANISM, 'deltaBias', deltaBias, ['heads'], extents);
  if (state) checkTensor(MECHANISM, 'state.memory', state.memory, ['batch', 'heads', 'states', 'width'], extents);
  const [heads, groups] = [extents.get('heads')!, extents.get('groups')!];
  checkGroups(MECHANISM, groups, heads, 'heads');
  checkPerToken(MECHANISM, input, { mask });
  const forms = ['parallel', 'chunk', 'recurrent'];
  checkSetting(MECHANISM, 'form', forms.includes(form), forms.join(', '), form, 'Choose one of its forms.');
  const whole = Number.isInteger(chunkSize) && chunkSize > 0;
  checkSetting(MECHANISM, 'chunkSize', whole, 'a whole number of at least 1', chunkSize, 'Usual sizes are 32 to 256.');
  const ordered = deltaLimits.length === 2 && deltaLimits[0] >= 0 && deltaLimits[0] <= deltaLimits[1];
  const limits = 'two numbers from 0 up, the smaller first';
  checkSetting(MECHANISM, 'deltaLimits', ordered, limits, deltaLimits.map(String), 'Leave it out for no limits.');
}
