import { checkSetting, checkTensor, keepValid, softplus } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { checkGroups, checkPerToken } from '../check-layout.ts';
import { chunkForm } from './chunk.ts';
import type { SelectiveReads, SelectiveSteps } from './chunk.ts';
import { recurrentForm } from './recurrent.ts';

/** Tensors that `selectiveStateSpace` reads, all float32. */
export interface SelectiveTensors {
  /** x, [B, T, C] */
  readonly input: tf.Tensor;
  /** step size of every channel before bias and softplus, [B, T, C] */
  readonly delta: tf.Tensor;
  /** A, negative, [C, N] */
  readonly transition: tf.Tensor;
  /** B, what of the input enters the state, [B, T, N], or [B, T, G, N] where group g serves channels g C / G and following */
  readonly inputMatrix: tf.Tensor;
  /** C, what of the state is read, in the layout of `inputMatrix` */
  readonly outputMatrix: tf.Tensor;
  /** D, weight of the input that goes straight to the output, [C] */
  readonly skip?: tf.Tensor | undefined;
  /** z, the output is multiplied by silu(z), [B, T, C] */
  readonly gate?: tf.Tensor | undefined;
  /** added to delta, [C] */
  readonly deltaBias?: tf.Tensor | undefined;
}

/** What the selective state space carries from piece to piece. */
export interface SelectiveState {
  readonly [name: string]: tf.Tensor;
  /** h, [B, C, N] */
  readonly memory: tf.Tensor;
}

/** Settings of `selectiveStateSpace`; everything has a default. */
export interface SelectiveSettings {
  /** the step is softplus(delta + bias), default true; false: delta + bias itself, which must then not be negative */
  readonly deltaSoftplus?: boolean;
  /** state of an earlier call; default zeros */
  readonly state?: SelectiveState;
  /** default chunk */
  readonly form?: 'chunk' | 'recurrent';
  /** steps that the composed scan holds at once, a matter of memory; default null: chosen by size */
  readonly chunkSize?: number | null;
  /** [B, T], 1 for tokens and 0 for padding, which leaves the state as it is; what stands at padding must be finite */
  readonly mask?: tf.Tensor;
}

const MECHANISM = 'mamba-s6';

/**
 * Mamba's selective state space: per channel c and state n `h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t x_t` with
 * `Delta = softplus(delta + bias)`, and `y_t = (sum_n C_t h_t + D x_t) * silu(z_t)`.
 *
 * @param tensors input and delta [B, T, C], transition [C, N], inputMatrix and outputMatrix [B, T, N] or [B, T, G, N], and optionally skip
 *   and deltaBias [C] and gate [B, T, C]
 * @param settings softplus, state, form and mask; see `SelectiveSettings` for the defaults
 * @returns output [B, T, C] and the state after the last token, `memory` [B, C, N]; both have gradients and are the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see Gu & Dao 2023, arXiv 2312.00752
 */
export function selectiveStateSpace(
  tensors: SelectiveTensors,
  settings: SelectiveSettings = {},
): { output: tf.Tensor; state: SelectiveState } {
  check(tensors, settings);
  const { input, delta, transition, inputMatrix, outputMatrix, skip, gate, deltaBias } = tensors;
  const { deltaSoftplus = true, state, form = 'chunk', chunkSize = null, mask } = settings;
  const [batch, length, channels] = input.shape as [number, number, number];
  const states = transition.shape[1]!;
  const { output, memory } = tf.tidy((): SelectiveReads => {
    const raw = deltaBias ? tf.add(delta, deltaBias) : delta;
    const step = deltaSoftplus ? softplus(raw) : raw;
    const grouped = (matrix: tf.Tensor): tf.Tensor => (matrix.rank === 4 ? matrix : tf.reshape(matrix, [batch, length, 1, states]));
    const steps: SelectiveSteps = {
      input,
      // a step of no time neither decays nor adds
      delta: keepValid(step, mask ?? null),
      transition,
      inputMatrix: grouped(inputMatrix),
      outputMatrix: grouped(outputMatrix),
      memory: state ? state.memory : tf.zeros([batch, channels, states]),
    };
    const reads = form === 'chunk' ? chunkForm(steps, chunkSize) : recurrentForm(steps);
    const sum = skip ? tf.add(reads.output, tf.mul(input, skip)) : reads.output;
    return { output: gate ? tf.mul(sum, tf.mul(gate, tf.sigmoid(gate))) : sum, memory: reads.memory };
  });
  return { output, state: { memory } };
}

function check(tensors: SelectiveTensors, { state, form = 'chunk', chunkSize = null, mask }: SelectiveSettings): void {
  const { input, delta, transition, inputMatrix, outputMatrix, skip, gate, deltaBias } = tensors;
  const extents: Extents = new Map<string, number>();
  const wide = ['batch', 'time', 'channels'];
  checkTensor(MECHANISM, 'input', input, wide, extents);
  checkTensor(MECHANISM, 'delta', delta, wide, extents);
  checkTensor(MECHANISM, 'transition', transition, ['channels', 'states'], extents);
  const matrix = inputMatrix?.rank === 4 ? ['batch', 'time', 'groups', 'states'] : ['batch', 'time', 'states'];
  checkTensor(MECHANISM, 'inputMatrix', inputMatrix, matrix, extents);
  checkTensor(MECHANISM, 'outputMatrix', outputMatrix, matrix, extents);
  if (skip) checkTensor(MECHANISM, 'skip', skip, ['channels'], extents);
  if (gate) checkTensor(MECHANISM, 'gate', gate, wide, extents);
  if (deltaBias) checkTensor(MECHANISM, 'deltaBias', deltaBias, ['channels'], extents);
  if (state) checkTensor(MECHANISM, 'state.memory', state.memory, ['batch', 'channels', 'states'], extents);
  const [channels, groups] = [extents.get('channels')!, extents.get('groups') ?? 1];
  checkGroups(MECHANISM, groups, channels, 'channels');
  checkPerToken(MECHANISM, input, { mask });
  checkSetting(MECHANISM, 'form', form === 'chunk' || form === 'recurrent', 'chunk or recurrent', form, 'Choose one of its forms.');
  const right = chunkSize === null || (Number.isInteger(chunkSize) && chunkSize > 0);
  checkSetting(MECHANISM, 'chunkSize', right, 'null or a whole number of at least 1', chunkSize, 'Leave it out to have it chosen.');
}
