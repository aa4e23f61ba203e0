import * as tf from '@tensorflow/tfjs-core';
import type { MemoryCarry, MemoryPiece } from './carry.ts';
import { mixingOf } from './mixing.ts';
import { readNetwork, surpriseOf } from './network.ts';
import type { MemoryNetwork } from './network.ts';

/** The chunk form of a piece: all its tokens at once, by products of matrices, without the weights of any token. */
export function chunkForm(piece: MemoryPiece, carry: MemoryCarry, network: MemoryNetwork): { output: tf.Tensor; carry: MemoryCarry } {
  const { weights, momenta, references } = carry;
  const { kept, carried, moved, pushed, momentumLeft } = mixingOf(piece);
  const { inputs, errors } = surpriseOf(piece.key, piece.value, references, network);
  const [count, size] = piece.stepSize.shape as [number, number];
  const layers = weights.map((weight, index) => (x: tf.Tensor): tf.Tensor => {
    const near = tf.matMul(tf.mul(tf.matMul(x, inputs[index]!, false, true), moved), errors[index]!);
    const old = tf.mul(kept, tf.matMul(x, weight));
    const all = carried ? tf.add(old, tf.mul(carried, tf.matMul(x, momenta[index]!))) : old;
    return tf.sub(all, near);
  });
  const output = readNetwork(piece.query, layers, network);
  const end = (factor: tf.Tensor): tf.Tensor => tf.slice(factor, [0, size - 1, 0], [count, 1, 1]);
  const share = tf.reshape(tf.slice(moved, [0, size - 1, 0], [count, 1, size]), [count, size, 1]);
  const total = (index: number, factor: tf.Tensor): tf.Tensor => tf.matMul(inputs[index]!, tf.mul(errors[index]!, factor), true, false);
  return {
    output,
    carry: {
      weights: weights.map((weight, index) => {
        const old = tf.mul(end(kept), weight);
        return tf.sub(carried ? tf.add(old, tf.mul(end(carried), momenta[index]!)) : old, total(index, share));
      }),
      momenta: momenta.map((momentum, index) => tf.sub(tf.mul(momentumLeft!, momentum), total(index, pushed!))),
      references,
    },
  };
}
