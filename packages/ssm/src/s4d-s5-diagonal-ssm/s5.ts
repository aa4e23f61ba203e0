import { checkTensor } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { checkPerToken } from '../check-layout.ts';
import { product } from '../parallel-scan/complex.ts';
import { parallelScan } from '../parallel-scan/parallel-scan.ts';
import { discretise } from './discretise.ts';
import type { Discretisation } from './naive.ts';
import { checkChoices } from './s4d.ts';
import type { DiagonalState } from './s4d.ts';

/** Tensors that `s5` reads, all float32. */
export interface S5Tensors {
  /** u, [B, T, H] */
  readonly input: tf.Tensor;
  /** real part of the poles, below 0, [P]; one of each conjugate pair */
  readonly poleReal: tf.Tensor;
  /** [P] */
  readonly poleImaginary: tf.Tensor;
  /** log of the step of every pole, [P] */
  readonly logStep: tf.Tensor;
  /** real part of B, [P, H] */
  readonly inputReal: tf.Tensor;
  /** [P, H] */
  readonly inputImaginary: tf.Tensor;
  /** real part of C, [H, P] */
  readonly outputReal: tf.Tensor;
  /** [H, P] */
  readonly outputImaginary: tf.Tensor;
  /** D, weight of the input that goes straight to the output, [H] */
  readonly skip?: tf.Tensor | undefined;
  /** time since the token before as a multiple of the step, [B, T]; default 1 everywhere */
  readonly interval?: tf.Tensor | undefined;
}

/** Settings of `s5`; everything has a default. */
export interface S5Settings {
  /** default zoh */
  readonly discretisation?: Discretisation;
  /** state of an earlier call; default zeros */
  readonly state?: DiagonalState;
  /** form of the scan, default chunk (the kernel) */
  readonly form?: 'parallel' | 'chunk' | 'recurrent';
  /** [B, T], 1 for tokens and 0 for padding, which leaves the state as it is; what stands at padding must be finite */
  readonly mask?: tf.Tensor;
}

const MECHANISM = 's4d-s5-diagonal-ssm';

/**
 * S5, one time-invariant diagonal state space for all channels: `x_t = Abar x_{t-1} + Bbar u_t` and `y_t = 2 Re(C x_t) + D u_t`.
 *
 * @param tensors input [B, T, H], poles and logStep [P], B [P, H], C [H, P], skip [H], interval [B, T]; P poles stand for 2 P states
 * @param settings discretisation, state, form of the scan and mask; see `S5Settings` for the defaults
 * @returns output [B, T, H] and the state after the last valid token, [B, P] twice; all have gradients and are the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see Smith et al. 2022, arXiv 2208.04933
 */
export function s5(tensors: S5Tensors, settings: S5Settings = {}): { output: tf.Tensor; state: DiagonalState } {
  check(tensors, settings);
  const { input, poleReal, poleImaginary, logStep, inputReal, inputImaginary, outputReal, outputImaginary, skip, interval } = tensors;
  const { discretisation = 'zoh', state, form = 'chunk', mask } = settings;
  const [batch, length, channels] = input.shape as [number, number, number];
  const poles = poleReal.shape[0]!;
  const [output, hidden, hiddenImaginary] = tf.tidy(() => {
    const base = tf.exp(logStep);
    const step = interval ? tf.mul(tf.reshape(interval, [batch, length, 1]), base) : base; // [P] or [B, T, P]
    const { logDecay, phase, factor } = discretise(poleReal, poleImaginary, step, discretisation);
    const maps = tf.transpose(tf.concat([inputReal, inputImaginary], 0)); // [H, 2 P]
    const rows = tf.reshape(input, [batch * length, channels]);
    const mapped = tf.split(tf.reshape(tf.matMul(rows, maps), [batch, length, 2 * poles]), 2, 2);
    const drive = product(mapped, factor);
    const found = parallelScan(
      { input: drive[0]!, inputImaginary: drive[1]!, logDecay, phase },
      { form, ...(state ? { state } : {}), ...(mask ? { mask } : {}) },
    );
    const states = tf.reshape(tf.concat([found.output, found.outputImaginary!], 2), [batch * length, 2 * poles]);
    const reads = tf.transpose(tf.concat([tf.mul(outputReal, 2), tf.mul(outputImaginary, -2)], 1)); // [2 P, H]
    const sum = tf.reshape(tf.matMul(states, reads), input.shape);
    return [skip ? tf.add(sum, tf.mul(input, skip)) : sum, found.state.hidden, found.state.hiddenImaginary!];
  }) as [tf.Tensor, tf.Tensor, tf.Tensor];
  return { output, state: { hidden, hiddenImaginary } };
}

function check(tensors: S5Tensors, { discretisation = 'zoh', state, form = 'chunk', mask }: S5Settings): void {
  const { input, poleReal, poleImaginary, logStep, inputReal, inputImaginary, outputReal, outputImaginary, skip, interval } = tensors;
  const extents: Extents = new Map<string, number>();
  checkTensor(MECHANISM, 'input', input, ['batch', 'time', 'channels'], extents);
  for (const [name, tensor] of Object.entries({ poleReal, poleImaginary, logStep }))
    checkTensor(MECHANISM, name, tensor, ['poles'], extents);
  for (const [name, tensor] of Object.entries({ inputReal, inputImaginary }))
    checkTensor(MECHANISM, name, tensor, ['poles', 'channels'], extents);
  for (const [name, tensor] of Object.entries({ outputReal, outputImaginary }))
    checkTensor(MECHANISM, name, tensor, ['channels', 'poles'], extents);
  if (skip) checkTensor(MECHANISM, 'skip', skip, ['channels'], extents);
  if (interval) checkTensor(MECHANISM, 'interval', interval, ['batch', 'time'], extents);
  if (state) {
    checkTensor(MECHANISM, 'state.hidden', state.hidden, ['batch', 'poles'], extents);
    checkTensor(MECHANISM, 'state.hiddenImaginary', state.hiddenImaginary, ['batch', 'poles'], extents);
  }
  checkPerToken(MECHANISM, input, { mask });
  checkChoices(discretisation, form);
}
