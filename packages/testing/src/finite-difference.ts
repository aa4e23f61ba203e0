import type * as tf from '@tensorflow/tfjs-core';
import { valueAndGradients } from '@seqloom/core';
import { weightedSum64 } from './oracle/array64.ts';
import type { Array64, Arrays64 } from './oracle/array64.ts';

/** A direction of +1 and -1, so that every element moves by the same amount. */
export function signs(size: number, next: () => number): Float64Array {
  return Float64Array.from({ length: size }, () => (next() < 0.5 ? -1 : 1));
}

/**
 * Derivative of `weightedSum64(oracle(inputs), cotangents)` along one direction of one input, in double precision.
 *
 * Central differences, (f(h) - f(-h)) / 2h with h = 1e-6: the truncation error is of the order h^2 = 1e-12 and the rounding error 1e-16 / h =
 * 1e-10 of the sum, so the answer is good to about 1e-9 of the gradient; so small a step hardly ever straddles a kink.
 *
 * @param name the input to move
 * @param direction one number per element
 */
export function directionalDerivative64(
  oracle: (inputs: Arrays64) => Arrays64,
  inputs: Arrays64,
  cotangents: Arrays64,
  name: string,
  direction: Float64Array,
  step = 1e-6,
): number {
  const original = inputs[name]!;
  const at = (h: number): number => {
    const moved: Array64 = { shape: original.shape, data: original.data.map((value, i) => value + h * direction[i]!) };
    return weightedSum64(oracle({ ...inputs, [name]: moved }), cotangents);
  };
  return (at(step) - at(-step)) / (2 * step);
}

/** A sum of many float32 products, added up in double precision, with the size of its rounding errors. */
export interface LossValue {
  readonly value: number;
  /** root of the sum of the squared terms: rounding errors of the terms are about 2^-24 of this */
  readonly norm: number;
}

/** `sum(outputs * weights)`, added up on the host in double precision. */
export async function hostLoss(outputs: readonly tf.Tensor[], weights: readonly Float32Array[]): Promise<LossValue> {
  let value = 0;
  let squares = 0;
  for (const [index, output] of outputs.entries()) {
    const data = await output.data();
    const weight = weights[index]!;
    for (let i = 0; i < weight.length; i++) {
      const term = data[i]! * weight[i]!;
      value += term;
      squares += term * term;
    }
  }
  return { value, norm: Math.sqrt(squares) };
}

/** What a directional check in float32 found. */
export interface DirectionalCheck {
  readonly numeric: number;
  /** how far `numeric` can be off by rounding alone */
  readonly noise: number;
}

/**
 * Derivative along one direction of a loss that a float32 computation gives, by fourth-order central differences.
 *
 * They are (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h. With a step of h the truncation error is of the order h^4 (1e-8 for h = 1e-2). The four
 * losses are each wrong by about 2^-24 of the norm of their terms, times a small factor for the length of the computation (2 here; layers of
 * ten operations showed up to 1), which gives an error of at most 18/12 * 2 * 2^-24 norm / h.
 *
 * @param at gives the loss with the tensor moved by h along the direction
 */
export async function directionalDerivative(at: (h: number) => Promise<LossValue>, step: number): Promise<DirectionalCheck> {
  const [up, down, up2, down2] = [await at(step), await at(-step), await at(2 * step), await at(-2 * step)];
  const numeric = (8 * (up.value - down.value) - (up2.value - down2.value)) / (12 * step);
  const norm = Math.max(up.norm, down.norm, up2.norm, down2.norm);
  return { numeric, noise: (1.5 * 2 * 2 ** -24 * norm) / step };
}

/**
 * Gradients of a scalar with respect to tensors; a tensor that the scalar does not depend on gets null.
 *
 * @param scalar makes a scalar tensor
 */
export function gradientsOf(scalar: () => tf.Tensor, by: readonly tf.Tensor[]): (tf.Tensor | null)[] {
  const { value, gradients } = valueAndGradients(scalar, by);
  value.dispose();
  return gradients;
}
