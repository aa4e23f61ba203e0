import * as tf from '@tensorflow/tfjs-core';
import { checkTensor } from './check-tensor.ts';
import { chunkScan, scanGradients, steps } from './scan/chunk-scan.ts';
import { defineKernel } from './define.ts';

/** Tensors that `linearScan` reads. */
export type LinearScanInputs = {
  /** a, float32 [B, T, C], any value; magnitudes above 1 grow without bound */
  readonly decay: tf.Tensor;
  /** b, [B, T, C] */
  readonly input: tf.Tensor;
  /** h before the first step, [B, C]; zeros when left out */
  readonly state?: tf.Tensor | undefined;
};

/** Settings of the scan kernels. */
export type LinearScanAttributes = {
  /** whether time runs backwards: h_t = a_t h_{t+1} + b_t */
  readonly reverse: boolean;
};

// [B, C] as one step [B, 1, C]
function oneStep(state: tf.Tensor): tf.Tensor {
  return tf.reshape(state, [state.shape[0]!, 1, state.shape[1]!]);
}

function lastState(hidden: tf.Tensor, reverse: boolean): tf.Tensor {
  const [batch, time, channels] = hidden.shape as [number, number, number];
  return tf.reshape(steps([hidden], reverse ? 0 : time - 1, 1)[0]!, [batch, channels]);
}

/** The kernel contract behind `linearScan`. */
export const linearScanKernel = defineKernel<LinearScanInputs, LinearScanAttributes, 'hidden' | 'state'>({
  name: 'LinearScan',
  outputs: ['hidden', 'state'],
  composed({ decay, input, state }, { reverse }) {
    const [hidden] = chunkScan([decay], [input], state && [oneStep(state)], reverse) as [tf.Tensor];
    return { hidden, state: lastState(hidden, reverse) };
  },
  gradient: {
    inputs: ['decay', 'input', 'state'],
    needs: ['hidden'],
    composed({ decay, state }, { hidden }, upstream, { reverse }) {
      const found = scanGradients([decay], [hidden], state && [oneStep(state)], [upstream.hidden], [oneStep(upstream.state)], reverse);
      return {
        decay: found.decay[0]!,
        input: found.input[0]!,
        ...(state && { state: tf.reshape(found.state[0]!, state.shape) }),
      };
    },
  },
});

/**
 * First-order linear recurrence per channel: `h_t = a_t * h_{t-1} + b_t`.
 *
 * A decay of 1 makes a cumulative sum, 0 forgets all before; nothing is divided by, so any decay is exact to rounding.
 *
 * @param inputs `decay` a and `input` b [B, T, C], and optionally `state` [B, C]
 * @param options `reverse` (false): run from the last step to the first
 * @returns `hidden`, all h [B, T, C], and `state`, the one computed last [B, C]
 * @throws SeqLoomError when a shape or dtype does not fit
 */
export function linearScan(inputs: LinearScanInputs, options: Partial<LinearScanAttributes> = {}): { hidden: tf.Tensor; state: tf.Tensor } {
  const { decay, input, state } = inputs;
  const extents = new Map<string, number>();
  checkTensor('linear-scan', 'decay', decay, ['batch', 'time', 'channels'], extents);
  checkTensor('linear-scan', 'input', input, ['batch', 'time', 'channels'], extents);
  if (state) checkTensor('linear-scan', 'state', state, ['batch', 'channels'], extents);
  return linearScanKernel.run({ decay, input, state }, { reverse: options.reverse ?? false });
}

/** Tensors that `complexLinearScan` reads, each number as a real and an imaginary part. */
export type ComplexLinearScanInputs = {
  /** real part of a, float32 [B, T, C] */
  readonly decayReal: tf.Tensor;
  readonly decayImaginary: tf.Tensor;
  /** real part of b, [B, T, C] */
  readonly inputReal: tf.Tensor;
  readonly inputImaginary: tf.Tensor;
  /** real part of h before the first step, [B, C]; both parts or neither */
  readonly stateReal?: tf.Tensor | undefined;
  readonly stateImaginary?: tf.Tensor | undefined;
};

type ComplexOutput = 'hiddenReal' | 'hiddenImaginary' | 'stateReal' | 'stateImaginary';

function complexState({ stateReal, stateImaginary }: ComplexLinearScanInputs): tf.Tensor[] | undefined {
  return stateReal && stateImaginary && [oneStep(stateReal), oneStep(stateImaginary)];
}

/** The kernel contract behind `complexLinearScan`. */
export const complexLinearScanKernel = defineKernel<ComplexLinearScanInputs, LinearScanAttributes, ComplexOutput>({
  name: 'ComplexLinearScan',
  outputs: ['hiddenReal', 'hiddenImaginary', 'stateReal', 'stateImaginary'],
  composed(inputs, { reverse }) {
    const decay = [inputs.decayReal, inputs.decayImaginary];
    const input = [inputs.inputReal, inputs.inputImaginary];
    const [hiddenReal, hiddenImaginary] = chunkScan(decay, input, complexState(inputs), reverse) as [tf.Tensor, tf.Tensor];
    return { hiddenReal, hiddenImaginary, stateReal: lastState(hiddenReal, reverse), stateImaginary: lastState(hiddenImaginary, reverse) };
  },
  gradient: {
    inputs: ['decayReal', 'decayImaginary', 'inputReal', 'inputImaginary', 'stateReal', 'stateImaginary'],
    needs: ['hiddenReal', 'hiddenImaginary'],
    composed(inputs, saved, upstream, { reverse }) {
      const state = complexState(inputs);
      const found = scanGradients(
        [inputs.decayReal, inputs.decayImaginary],
        [saved.hiddenReal, saved.hiddenImaginary],
        state,
        [upstream.hiddenReal, upstream.hiddenImaginary],
        [oneStep(upstream.stateReal), oneStep(upstream.stateImaginary)],
        reverse,
      );
      const [[decayReal, decayImaginary], [inputReal, inputImaginary]] = [found.decay, found.input] as [tf.Tensor[], tf.Tensor[]];
      const flat = (part: tf.Tensor) => tf.reshape(part, inputs.stateReal!.shape);
      return {
        decayReal: decayReal!,
        decayImaginary: decayImaginary!,
        inputReal: inputReal!,
        inputImaginary: inputImaginary!,
        ...(state && { stateReal: flat(found.state[0]!), stateImaginary: flat(found.state[1]!) }),
      };
    },
  },
});

/**
 * First-order linear recurrence of complex numbers per channel: `h_t = a_t * h_{t-1} + b_t` (S4D, S5, LRU).
 *
 * @param inputs real and imaginary parts of a and b [B, T, C], and optionally of the state [B, C]
 * @param options `reverse` (false): run from the last step to the first
 * @returns real and imaginary parts of all h [B, T, C] and of the one computed last [B, C]
 * @throws SeqLoomError when a shape or dtype does not fit, or only one part of the state is given
 */
export function complexLinearScan(
  inputs: ComplexLinearScanInputs,
  options: Partial<LinearScanAttributes> = {},
): Record<ComplexOutput, tf.Tensor> {
  const { decayReal, decayImaginary, inputReal, inputImaginary, stateReal, stateImaginary } = inputs;
  const extents = new Map<string, number>();
  for (const [name, tensor] of Object.entries({ decayReal, decayImaginary, inputReal, inputImaginary })) {
    checkTensor('complex-linear-scan', name, tensor, ['batch', 'time', 'channels'], extents);
  }
  if (stateReal || stateImaginary) {
    checkTensor('complex-linear-scan', 'stateReal', stateReal, ['batch', 'channels'], extents);
    checkTensor('complex-linear-scan', 'stateImaginary', stateImaginary, ['batch', 'channels'], extents);
  }
  return complexLinearScanKernel.run(
    { decayReal, decayImaginary, inputReal, inputImaginary, stateReal, stateImaginary },
    { reverse: options.reverse ?? false },
  );
}
