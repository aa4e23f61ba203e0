import { checkSetting, checkTensor } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { parallelForm } from './parallel.ts';
import type { ConvolutionResult } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

/** Tensors that `shortCausalConv1d` reads, all float32. */
export interface ConvolutionTensors {
  /** x, [B, T, C] */
  readonly input: tf.Tensor;
  /** taps per channel, [C, K]; tap K - 1 multiplies the current token */
  readonly weight: tf.Tensor;
  /** [C] */
  readonly bias?: tf.Tensor | undefined;
}

/** What the convolution carries from piece to piece. */
export interface ConvolutionState {
  readonly [name: string]: tf.Tensor;
  /** the last K - 1 inputs, oldest first, [B, K - 1, C] */
  readonly window: tf.Tensor;
}

/** Settings of `shortCausalConv1d`; everything has a default. */
export interface ConvolutionSettings {
  /** what the sum passes through, default none */
  readonly activation?: 'none' | 'silu';
  /** state of an earlier call; default zeros */
  readonly state?: ConvolutionState;
  /** default parallel */
  readonly form?: 'parallel' | 'recurrent';
  /** valid tokens per row, [B], the rest being padding on the right, which gives zeros and does not reach the state */
  readonly lengths?: tf.Tensor;
}

const MECHANISM = 'short-causal-conv1d';

/**
 * Short causal depthwise convolution over time: `y_t = act(b + sum over i < K of w_i x_{t - K + 1 + i})`, with the state in front of the input.
 *
 * @param tensors input [B, T, C], weight [C, K], and optionally bias [C]
 * @param settings activation, state, form and lengths; see `ConvolutionSettings` for the defaults
 * @returns output [B, T, C] and the state after the last valid token, `window` [B, K - 1, C]; both have gradients and are the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 */
export function shortCausalConv1d(
  tensors: ConvolutionTensors,
  settings: ConvolutionSettings = {},
): { output: tf.Tensor; state: ConvolutionState } {
  const { input, weight, bias } = tensors;
  const { activation = 'none', state, form = 'parallel', lengths } = settings;
  const extents: Extents = new Map<string, number>();
  checkTensor(MECHANISM, 'input', input, ['batch', 'time', 'channels'], extents);
  checkTensor(MECHANISM, 'weight', weight, ['channels', 'taps'], extents);
  if (bias) checkTensor(MECHANISM, 'bias', bias, ['channels'], extents);
  const [batch, channels, taps] = [extents.get('batch')!, extents.get('channels')!, extents.get('taps')!];
  if (state) checkTensor(MECHANISM, 'state.window', state.window, [batch, taps - 1, channels]);
  if (lengths) checkTensor(MECHANISM, 'lengths', lengths, [batch], extents, lengths.dtype === 'int32' ? 'int32' : 'float32');
  checkSetting(MECHANISM, 'activation', ['none', 'silu'].includes(activation), 'none or silu', activation, 'Apply others to the output.');
  checkSetting(MECHANISM, 'form', ['parallel', 'recurrent'].includes(form), 'parallel or recurrent', form, 'Choose one of its forms.');
  const { output, window } = tf.tidy((): ConvolutionResult => {
    const call = { input, weight, bias, lengths, activation, window: state ? state.window : tf.zeros([batch, taps - 1, channels]) };
    return form === 'parallel' ? parallelForm(call) : recurrentForm(call);
  });
  return { output, state: { window } };
}
