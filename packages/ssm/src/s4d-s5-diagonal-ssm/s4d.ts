import { checkSetting, checkTensor } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { chunkForm } from './chunk.ts';
import { discretise } from './discretise.ts';
import type { Discretisation } from './naive.ts';
import { parallelForm } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

/** Tensors that `s4d` reads, all float32. */
export interface S4dTensors {
  /** u, [B, T, H] */
  readonly input: tf.Tensor;
  /** real part of the poles, below 0, [H, N]; one of each conjugate pair */
  readonly poleReal: tf.Tensor;
  /** [H, N] */
  readonly poleImaginary: tf.Tensor;
  /** log of the step of every channel, [H] */
  readonly logStep: tf.Tensor;
  /** real part of C with B in it, [H, N] */
  readonly outputReal: tf.Tensor;
  /** [H, N] */
  readonly outputImaginary: tf.Tensor;
  /** D, weight of the input that goes straight to the output, [H] */
  readonly skip?: tf.Tensor | undefined;
}

/** What a diagonal state space carries from piece to piece. */
export interface DiagonalState {
  readonly [name: string]: tf.Tensor;
  /** real part of x: [B, H, N] in S4D, [B, P] in S5 */
  readonly hidden: tf.Tensor;
  /** its imaginary part */
  readonly hiddenImaginary: tf.Tensor;
}

/** Settings of `s4d`; everything has a default. */
export interface S4dSettings {
  /** default zoh */
  readonly discretisation?: Discretisation;
  /** state of an earlier call; default zeros */
  readonly state?: DiagonalState;
  /** default chunk */
  readonly form?: 'parallel' | 'chunk' | 'recurrent';
  /** tokens per block, default 64; a matter of speed */
  readonly chunkSize?: number;
  /** valid tokens per row, [B], the rest being padding on the right, which must be finite; outputs there are 0 */
  readonly lengths?: tf.Tensor;
}

const MECHANISM = 's4d-s5-diagonal-ssm';

/**
 * S4D, a time-invariant diagonal state space per channel: `x_t = Abar x_{t-1} + Bbar u_t` and `y_t = 2 Re(C x_t) + D u_t`, with B = 1.
 *
 * @param tensors input [B, T, H], poles and C [H, N], logStep and skip [H]; N poles stand for 2 N states
 * @param settings discretisation, state, form and lengths; see `S4dSettings` for the defaults
 * @returns output [B, T, H] and the state after the last valid token, [B, H, N] twice; all have gradients and are the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see Gu et al. 2022, arXiv 2206.11893
 */
export function s4d(tensors: S4dTensors, settings: S4dSettings = {}): { output: tf.Tensor; state: DiagonalState } {
  const { input, poleReal, poleImaginary, logStep, outputReal, outputImaginary, skip } = tensors;
  const { discretisation = 'zoh', state, form = 'chunk', chunkSize = 64, lengths } = settings;
  check(tensors, settings);
  const [batch, length, channels] = input.shape as [number, number, number];
  const [output, hidden, hiddenImaginary] = tf.tidy(() => {
    const valid =
      lengths && tf.cast(tf.less(tf.range(0, length, 1, 'float32'), tf.reshape(tf.cast(lengths, 'float32'), [batch, 1])), 'float32');
    const keep = (part: tf.Tensor): tf.Tensor => (valid ? tf.mul(part, tf.reshape(valid, [batch, length, 1])) : part);
    const tokens = keep(input);
    const step = tf.reshape(tf.exp(logStep), [channels, 1]);
    const call = {
      input: tokens,
      system: discretise(poleReal, poleImaginary, step, discretisation),
      output: [outputReal, outputImaginary],
      hidden: state ? [state.hidden, state.hiddenImaginary] : null,
      lengths: lengths ?? null,
      chunkSize,
    };
    const reads = form === 'chunk' ? chunkForm(call) : form === 'parallel' ? parallelForm(call) : recurrentForm(call);
    const sum = skip ? tf.add(reads.output, tf.mul(tokens, skip)) : reads.output;
    return [keep(sum), ...reads.hidden];
  }) as [tf.Tensor, tf.Tensor, tf.Tensor];
  return { output, state: { hidden, hiddenImaginary } };
}

function check(tensors: S4dTensors, { discretisation = 'zoh', state, form = 'chunk', chunkSize = 64, lengths }: S4dSettings): void {
  const { input, logStep, skip, poleReal, poleImaginary, outputReal, outputImaginary } = tensors;
  const extents: Extents = new Map<string, number>();
  checkTensor(MECHANISM, 'input', input, ['batch', 'time', 'channels'], extents);
  for (const [name, tensor] of Object.entries({ poleReal, poleImaginary, outputReal, outputImaginary }))
    checkTensor(MECHANISM, name, tensor, ['channels', 'poles'], extents);
  checkTensor(MECHANISM, 'logStep', logStep, ['channels'], extents);
  if (skip) checkTensor(MECHANISM, 'skip', skip, ['channels'], extents);
  if (state) {
    checkTensor(MECHANISM, 'state.hidden', state.hidden, ['batch', 'channels', 'poles'], extents);
    checkTensor(MECHANISM, 'state.hiddenImaginary', state.hiddenImaginary, ['batch', 'channels', 'poles'], extents);
  }
  if (lengths) checkTensor(MECHANISM, 'lengths', lengths, ['batch'], extents, lengths.dtype === 'int32' ? 'int32' : 'float32');
  checkChoices(discretisation, form);
  const whole = Number.isInteger(chunkSize) && chunkSize > 0;
  checkSetting(MECHANISM, 'chunkSize', whole, 'a whole number of at least 1', chunkSize, 'Usual sizes are 32 to 128.');
}

/** Refuses an unknown discretisation or form. */
export function checkChoices(discretisation: string, form: string): void {
  const methods = ['zoh', 'bilinear'];
  checkSetting(MECHANISM, 'discretisation', methods.includes(discretisation), methods.join(' or '), discretisation, 'Choose one.');
  const forms = ['parallel', 'chunk', 'recurrent'];
  checkSetting(MECHANISM, 'form', forms.includes(form), forms.join(', '), form, 'Choose one of its forms.');
}
