import * as tf from '@tensorflow/tfjs-core';
import { product, total } from '../parallel-scan/complex.ts';
import type { Parts } from '../parallel-scan/complex.ts';
import { parallelScan } from '../parallel-scan/parallel-scan.ts';
import { alignRight } from './align-right.ts';
import { powers } from './discretise.ts';
import type { Discrete } from './discretise.ts';

/** What the forms of S4D read, all float32; padding on the right is zero. */
export interface S4dCall {
  /** u, [B, T, H] */
  readonly input: tf.Tensor;
  /** the discrete system of every channel and pole, [H, N] */
  readonly system: Discrete;
  /** C, two of [H, N] */
  readonly output: Parts;
  /** x before the first token, two of [B, H, N]; null: zeros */
  readonly hidden: Parts | null;
  /** valid tokens per row, [B]; null: all */
  readonly lengths: tf.Tensor | null;
  /** tokens per block */
  readonly chunkSize: number;
}

/** What the forms of S4D return. */
export interface S4dReads {
  /** 2 Re(C x), [B, T, H] */
  readonly output: tf.Tensor;
  /** two of [B, H, N] */
  readonly hidden: Parts;
}

/**
 * The chunked form: a convolution in blocks of Q tokens, all as matrix products. Inside a block `Y = Toeplitz(K) U`; the states between blocks
 * are a short scan; and a state x adds `2 Re(C Abar^(i+1) x)` to the i-th token of the block after it.
 */
export function chunkForm(call: S4dCall): S4dReads {
  const { input, system, output: weight, hidden, chunkSize } = call;
  const [batch, length, channels] = input.shape as [number, number, number];
  const states = system.logDecay.shape[1]!;
  const size = Math.min(length, chunkSize);
  const chunks = Math.ceil(length / size);
  const blocks = blocksOf(input, size, 'right'); // [H, B C, Q]
  const kernel = impulseOf(product(weight, system.factor), powers(system, tf.range(0, size, 1, 'float32'))); // [H, Q]
  let rows = blocks;
  let columns = toeplitz(kernel);
  if (chunks > 1 || hidden) {
    const before = statesBefore(call, blocks, chunks); // [H, B C, 2 N]
    const ahead = powers(system, tf.range(1, size + 1, 1, 'float32'));
    rows = tf.concat([blocks, before], 2);
    columns = tf.concat([columns, readColumns(weight, ahead)], 1); // [H, Q + 2 N, Q]
  }
  const reads = tf.reshape(tf.matMul(rows, columns), [channels, batch, chunks * size]);
  const output = tf.transpose(tf.slice(reads, [0, 0, 0], [channels, batch, length]), [1, 2, 0]);
  return { output, hidden: endState(call, states) };
}

/**
 * The state after the last valid token: `Abar^T x + sum over j of Abar^(T-1-j) Bbar u_j`, in blocks.
 *
 * Rows are aligned at their ends first, so that padding stands before the tokens, where a state of zero passes it unchanged.
 */
export function endState({ input, system, hidden, lengths, chunkSize }: S4dCall, states: number): tf.Tensor[] {
  const [batch, length, channels] = input.shape as [number, number, number];
  const size = Math.min(length, chunkSize);
  const chunks = Math.ceil(length / size);
  const aligned = lengths ? alignRight(input, lengths) : input;
  const written = blockStates(system, blocksOf(aligned, size, 'left')); // two of [H, B C, N]
  const after = tf.mul(tf.range(chunks - 1, -1, -1, 'float32'), size);
  const toEnd = powers(system, after).map((part) => tf.reshape(tf.transpose(part, [0, 2, 1]), [channels, 1, chunks, states]));
  const terms = product(
    written.map((part) => tf.reshape(part, [channels, batch, chunks, states])),
    toEnd,
  );
  const added = terms.map((part) => tf.transpose(tf.sum(part, 2), [1, 0, 2])); // two of [B, H, N]
  if (!hidden) return added;
  const counts = lengths ? tf.cast(lengths, 'float32') : tf.fill([1], length);
  const kept = powers(system, counts).map((part) => tf.transpose(part, [2, 0, 1])); // two of [B or 1, H, N]
  return total(product(kept, hidden), added);
}

/** `2 Re(sum over n of w_n Abar_n^l)`, [H, L], from weights and powers. */
export function impulseOf(weight: Parts, power: Parts): tf.Tensor {
  const column = (part: tf.Tensor): tf.Tensor => tf.reshape(part, [...part.shape, 1]);
  const terms = tf.sub(tf.mul(column(weight[0]!), power[0]!), tf.mul(column(weight[1]!), power[1]!));
  return tf.mul(tf.sum(terms, 1), 2);
}

// [B, T, H] in blocks, filled with zeros on one side: [H, B C, Q]
function blocksOf(input: tf.Tensor, size: number, side: 'left' | 'right'): tf.Tensor {
  const [batch, length, channels] = input.shape as [number, number, number];
  const missing = Math.ceil(length / size) * size - length;
  const zeros = tf.zeros([batch, missing, channels]);
  const whole = missing === 0 ? input : tf.concat(side === 'left' ? [zeros, input] : [input, zeros], 1);
  return tf.reshape(tf.transpose(whole, [2, 0, 1]), [channels, -1, size]);
}

// what each block writes by its end: sum over j of Abar^(Q-1-j) Bbar u_j
function blockStates(system: Discrete, blocks: tf.Tensor): tf.Tensor[] {
  const size = blocks.shape[2]!;
  const toEnd = powers(system, tf.range(size - 1, -1, -1, 'float32')); // two of [H, N, Q]
  const factor = system.factor.map((part) => tf.reshape(part, [...part.shape, 1]));
  const columns = tf.transpose(tf.concat(product(factor, toEnd), 1), [0, 2, 1]); // [H, Q, 2 N]
  return tf.split(tf.matMul(blocks, columns), 2, 2);
}

// the state before every block, real and imaginary parts beside each other: [H, B C, 2 N]
function statesBefore({ input, system, hidden }: S4dCall, blocks: tf.Tensor, chunks: number): tf.Tensor {
  const [batch, , channels] = input.shape as [number, number, number];
  const [states, size] = [system.logDecay.shape[1]!, blocks.shape[2]!];
  const lanes = channels * states;
  const first = hidden
    ? hidden.map((part) => tf.reshape(part, [batch, 1, lanes]))
    : [tf.zeros([batch, 1, lanes]), tf.zeros([batch, 1, lanes])];
  let all: Parts = first;
  if (chunks > 1) {
    const written = blockStates(system, blocks).map((part) =>
      tf.slice(
        tf.reshape(tf.transpose(tf.reshape(part, [channels, batch, chunks, states]), [1, 2, 0, 3]), [batch, chunks, lanes]),
        [0, 0, 0],
        [batch, chunks - 1, lanes],
      ),
    );
    const polar = (part: tf.Tensor): tf.Tensor => tf.mul(tf.reshape(part, [lanes]), size);
    const { output, outputImaginary } = parallelScan(
      { input: written[0]!, inputImaginary: written[1]!, logDecay: polar(system.logDecay), phase: polar(system.phase) },
      hidden ? { state: { hidden: tf.reshape(hidden[0]!, [batch, lanes]), hiddenImaginary: tf.reshape(hidden[1]!, [batch, lanes]) } } : {},
    );
    all = [tf.concat([first[0]!, output], 1), tf.concat([first[1]!, outputImaginary!], 1)];
  }
  const perChannel = all.map((part) => tf.transpose(tf.reshape(part, [batch, chunks, channels, states]), [2, 0, 1, 3]));
  return tf.reshape(tf.concat(perChannel, 3), [channels, batch * chunks, 2 * states]);
}

// what a state adds to the tokens after it: [2 Re(C Abar^e); -2 Im(C Abar^e)], [H, 2 N, Q]
function readColumns(weight: Parts, ahead: Parts): tf.Tensor {
  const column = weight.map((part) => tf.reshape(part, [...part.shape, 1]));
  const [re, im] = product(column, ahead) as [tf.Tensor, tf.Tensor];
  return tf.concat([tf.mul(re, 2), tf.mul(im, -2)], 1);
}

// [H, Q] to [H, j, i] = k_{i-j} for i >= j and 0 below: rows of k and zeros, each read one place later
function toeplitz(kernel: tf.Tensor): tf.Tensor {
  const [channels, size] = kernel.shape as [number, number];
  const row = tf.reshape(tf.concat([kernel, tf.zeros([channels, size])], 1), [channels, 1, 2 * size]);
  const rows = tf.reshape(tf.add(row, tf.zeros([1, size, 2 * size])), [channels, 2 * size * size]);
  const shifted = tf.reshape(tf.slice(rows, [0, 0], [channels, size * (2 * size - 1)]), [channels, size, 2 * size - 1]);
  return tf.slice(shifted, [0, 0, 0], [channels, size, size]);
}
