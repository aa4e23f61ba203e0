import * as tf from '@tensorflow/tfjs-core';
import { product } from '../parallel-scan/complex.ts';
import type { Parts } from '../parallel-scan/complex.ts';
import { endState } from './chunk.ts';
import type { S4dCall, S4dReads } from './chunk.ts';
import { powers } from './discretise.ts';
import type { Discrete } from './discretise.ts';
import { fourierConvolution } from './fourier.ts';

/**
 * The parallel form: the kernel `K_l = 2 Re(C Bbar Abar^l)` over the whole length, a Fourier convolution with it, and what the state before the
 * first token adds, `2 Re(C Abar^(l+1) x)`.
 */
export function parallelForm(call: S4dCall): S4dReads {
  const { input, system, output: weight, hidden } = call;
  const [batch, length, channels] = input.shape as [number, number, number];
  const states = system.logDecay.shape[1]!;
  const row = (parts: Parts): tf.Tensor[] => parts.map((part) => tf.reshape(part, [1, channels, states]));
  const kernel = impulse(row(product(weight, system.factor)), system, length); // [1, H, T]
  const rows = tf.reshape(tf.transpose(input, [1, 0, 2]), [length, batch * channels]);
  const convolved = fourierConvolution(rows, tf.transpose(tf.reshape(kernel, [channels, length])));
  let output: tf.Tensor = tf.transpose(tf.reshape(convolved, [length, batch, channels]), [1, 0, 2]);
  if (hidden) {
    const one = powers(system, tf.ones([1])).map((part) => tf.reshape(part, [channels, states]));
    const response = impulse(product(row(product(weight, one)), hidden), system, length); // [B, H, T]
    output = tf.add(output, tf.transpose(response, [0, 2, 1]));
  }
  return { output, hidden: endState(call, states) };
}

/**
 * `2 Re(sum over n of w_n Abar_n^l)` for l from 0 to T - 1, [R, H, T] from weights [R, H, N].
 *
 * With l = a Q + b it is a product of two small tables of powers: no tensor has both T and N in it.
 */
function impulse(weight: Parts, system: Discrete, length: number): tf.Tensor {
  const [rows, channels, states] = weight[0]!.shape as [number, number, number];
  const size = Math.ceil(Math.sqrt(length));
  const count = Math.ceil(length / size);
  const steps = powers(system, tf.range(0, size, 1, 'float32')); // two of [H, N, Q]
  const strides = powers(system, tf.mul(tf.range(0, count, 1, 'float32'), size)); // two of [H, N, A]
  const left = product(
    weight.map((part) => tf.reshape(part, [rows, channels, 1, states])),
    strides.map((part) => tf.reshape(tf.transpose(part, [0, 2, 1]), [1, channels, count, states])),
  ); // two of [R, H, A, N]
  const flat = tf.reshape(tf.transpose(tf.concat(left, 3), [1, 0, 2, 3]), [channels, rows * count, 2 * states]);
  const right = tf.concat([tf.mul(steps[0], 2), tf.mul(steps[1], -2)], 1); // [H, 2 N, Q]
  const whole = tf.transpose(tf.reshape(tf.matMul(flat, right), [channels, rows, count * size]), [1, 0, 2]);
  return tf.slice(whole, [0, 0, 0], [rows, channels, length]);
}
