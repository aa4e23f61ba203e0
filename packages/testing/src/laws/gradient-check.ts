import * as tf from '@tensorflow/tfjs-core';
import { directionalDerivative, gradientsOf, hostLoss, signs } from '../finite-difference.ts';
import type { LossValue } from '../finite-difference.ts';
import { randomStream } from '../oracle/array64.ts';
import { finiteFault, fromTensor, randomArray, toTensor } from './host.ts';
import type { HostArray } from './host.ts';

/** A tensor to differentiate by: an input, a state tensor or a parameter. */
export interface Movable {
  readonly label: string;
  readonly tensor: tf.Tensor;
  /** a `tf.Variable`: it is moved in place, and its gradient must not be zero */
  readonly parameter: boolean;
}

/** Computes outputs from tensors each taken through `swap`, which may put another in place; parameters need no swap. */
export type SwappedForward = (swap: (tensor: tf.Tensor) => tf.Tensor) => tf.Tensor[];

/** Settings of `gradientFaults`. */
export interface GradientSettings {
  /** relative error of directional derivatives in float32, default 2e-3 */
  readonly tolerance?: number | undefined;
  /** step of the finite differences, default 1e-2 */
  readonly step?: number | undefined;
  /** labels of parameters whose gradient may be zero */
  readonly unused?: readonly string[] | undefined;
}

/**
 * Compares the gradients of a layer or model with finite differences, tensor by tensor, along random directions.
 *
 * The loss is the sum of all outputs, each times fixed random weights. Along a direction of +1 and -1 a gradient g has a derivative of the
 * order of its norm, so errors are measured by that norm, plus what rounding alone can do.
 *
 * @param forward gives float32 outputs; runs many times, and must give the same each time
 * @param movables tensors to differentiate by; unchanged afterwards
 * @returns faults, one line each: gradients that are wrong, not finite, or zero for a parameter that is not listed as unused
 */
export async function gradientFaults(
  forward: SwappedForward,
  movables: readonly Movable[],
  settings: GradientSettings = {},
): Promise<(string | null)[]> {
  const weights: HostArray[] = [];
  const gradients = gradientsOf(
    () =>
      forward((tensor) => tensor)
        .map((output, i) => {
          weights[i] ??= randomArray(output.shape, 520 + i);
          return tf.sum(tf.mul(output, toTensor(weights[i])));
        })
        .reduce((a, b) => tf.add(a, b)),
    movables.map(({ tensor }) => tensor),
  );
  const faults: (string | null)[] = [];
  try {
    for (const [index, movable] of movables.entries()) {
      const gradient = gradients[index] ? await fromTensor(gradients[index]) : null;
      const loss = (values: HostArray): Promise<LossValue> => movedLoss(forward, movable, values, weights);
      faults.push(...(await oneTensor(movable, gradient, loss, settings)));
    }
  } finally {
    tf.dispose(gradients.filter((gradient) => gradient !== null));
  }
  return faults;
}

/** The loss with one tensor replaced by other values. */
async function movedLoss(
  forward: SwappedForward,
  { tensor: moved, parameter }: Movable,
  values: HostArray,
  weights: readonly HostArray[],
): Promise<LossValue> {
  const replacement = toTensor(values);
  const original = parameter ? tf.clone(moved) : null;
  try {
    if (original) (moved as tf.Variable).assign(replacement);
    const outputs = tf.tidy(() => forward((tensor) => (tensor === moved && !parameter ? replacement : tensor)));
    const loss = await hostLoss(
      outputs,
      weights.map(({ data }) => data),
    );
    tf.dispose(outputs);
    return loss;
  } finally {
    if (original) (moved as tf.Variable).assign(original);
    tf.dispose([replacement, original ?? []]);
  }
}

async function oneTensor(
  { label, tensor, parameter }: Movable,
  gradient: HostArray | null,
  loss: (values: HostArray) => Promise<LossValue>,
  { tolerance = 2e-3, step: relativeStep = 1e-2, unused = [] }: GradientSettings,
): Promise<(string | null)[]> {
  const base = await fromTensor(tensor);
  const size = base.data.length;
  const fault = gradient && finiteFault(`gradient of ${label}`, gradient.data);
  if (fault) return [fault];
  const faults: (string | null)[] = [];
  const norm = Math.sqrt(gradient?.data.reduce((sum, g) => sum + g * g, 0) ?? 0);
  if (parameter && norm === 0 && !unused.includes(label)) {
    faults.push(`gradient of ${label} is zero everywhere; name it in unusedParameters if that is right`);
  }
  const rms = Math.sqrt(base.data.reduce((sum, v) => sum + v * v, 0) / Math.max(1, size));
  // a step in proportion to the tensor's own size keeps the truncation error alike for all of them
  const step = relativeStep * Math.min(1, Math.max(0.3, rms));
  // a GPU that the CPU plays takes 50 times as long, and one direction misses hardly anything
  for (const seed of tf.getBackend() === 'webgpu' ? [1] : [1, 2]) {
    const direction = signs(size, randomStream(seed * 7919 + size));
    const at = (h: number): Promise<LossValue> => loss({ shape: base.shape, data: base.data.map((value, i) => value + h * direction[i]!) });
    const { numeric, noise } = await directionalDerivative(at, step);
    const analytic = gradient?.data.reduce((sum, g, i) => sum + g * direction[i]!, 0) ?? 0;
    const off = Math.abs(numeric - analytic);
    const allowed = tolerance * norm + noise;
    if (!(off <= allowed)) {
      const apart = `apart by ${off.toExponential(2)}, allowed ${allowed.toExponential(2)}`;
      faults.push(`gradient of ${label} along random direction ${seed} is ${analytic}, finite differences give ${numeric} (${apart})`);
    }
  }
  return faults;
}
