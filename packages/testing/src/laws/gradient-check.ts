import * as tf from '@tensorflow/tfjs-core';
import { isSampling } from '../backends.ts';
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
    if (isSampling()) return await allTogether(forward, movables, gradients, weights, settings);
    for (const [index, movable] of movables.entries()) {
      const gradient = gradients[index] ? await fromTensor(gradients[index]) : null;
      const loss = (values: HostArray): Promise<LossValue> => movedLoss(forward, new Map([[movable, values]]), weights);
      faults.push(...(await oneTensor(movable, gradient, loss, settings)));
    }
  } finally {
    tf.dispose(gradients.filter((gradient) => gradient !== null));
  }
  return faults;
}

/** The loss with tensors replaced by other values. */
async function movedLoss(
  forward: SwappedForward,
  moves: ReadonlyMap<Movable, HostArray>,
  weights: readonly HostArray[],
): Promise<LossValue> {
  const replacements = new Map<tf.Tensor, tf.Tensor>();
  const originals = new Map<tf.Variable, tf.Tensor>();
  for (const [{ tensor, parameter }, values] of moves) {
    replacements.set(tensor, toTensor(values));
    if (parameter) originals.set(tensor as tf.Variable, tf.clone(tensor));
  }
  try {
    for (const variable of originals.keys()) variable.assign(replacements.get(variable)!);
    const outputs = tf.tidy(() =>
      forward((tensor) => (originals.has(tensor as tf.Variable) ? tensor : (replacements.get(tensor) ?? tensor))),
    );
    const loss = await hostLoss(
      outputs,
      weights.map(({ data }) => data),
    );
    tf.dispose(outputs);
    return loss;
  } finally {
    for (const [variable, original] of originals) variable.assign(original);
    tf.dispose([...replacements.values(), ...originals.values()]);
  }
}

/** One direction through all tensors at once: what a sampling run can afford. */
async function allTogether(
  forward: SwappedForward,
  movables: readonly Movable[],
  gradients: readonly (tf.Tensor | null)[],
  weights: readonly HostArray[],
  { tolerance = 2e-3, step: relativeStep = 1e-2, unused = [] }: GradientSettings,
): Promise<(string | null)[]> {
  const faults: (string | null)[] = [];
  const directions = new Map<Movable, { readonly base: HostArray; readonly direction: Float64Array }>();
  let [analytic, squares] = [0, 0];
  for (const [index, movable] of movables.entries()) {
    const { label, tensor, parameter } = movable;
    const base = await fromTensor(tensor);
    const direction = signs(base.data.length, randomStream(7919 + index)).map((sign) => sign * stepScale(base));
    directions.set(movable, { base, direction });
    const gradient = gradients[index] ? (await fromTensor(gradients[index])).data : new Float32Array(base.data.length);
    faults.push(finiteFault(`gradient of ${label}`, gradient));
    if (parameter && gradient.every((g) => g === 0) && !unused.includes(label)) faults.push(`gradient of ${label} is zero everywhere`);
    gradient.forEach((g, i) => {
      analytic += g * direction[i]!;
      squares += (g * direction[i]!) ** 2;
    });
  }
  const at = (h: number): Promise<LossValue> => {
    const moves = [...directions].map(([movable, { base, direction }]) => {
      const data = base.data.map((value, i) => value + h * direction[i]!);
      return [movable, { shape: base.shape, data }] as const;
    });
    return movedLoss(forward, new Map(moves), weights);
  };
  const { numeric, noise } = await directionalDerivative(at, relativeStep);
  const off = Math.abs(numeric - analytic);
  const allowed = tolerance * Math.sqrt(squares) + noise;
  if (!(off <= allowed)) {
    const apart = `apart by ${off.toExponential(2)}, allowed ${allowed.toExponential(2)}`;
    faults.push(`gradient along a random direction of everything is ${analytic}, finite differences give ${numeric} (${apart})`);
  }
  return faults;
}

// a step in proportion to the tensor's own size keeps the truncation error alike for all of them
function stepScale({ data }: HostArray): number {
  return Math.min(1, Math.max(0.3, Math.sqrt(data.reduce((sum, v) => sum + v * v, 0) / Math.max(1, data.length))));
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
  const step = relativeStep * stepScale(base);
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
