import * as tf from '@tensorflow/tfjs-core';
import type { MemoryCarry, MemoryPiece } from './carry.ts';
import { readNetwork, surpriseOf } from './network.ts';
import type { MemoryNetwork } from './network.ts';

/** The recurrent form of a piece: token by token, each with weights of its own. */
export function recurrentForm(piece: MemoryPiece, carry: MemoryCarry, network: MemoryNetwork): { output: tf.Tensor; carry: MemoryCarry } {
  const [count, size] = piece.stepSize.shape as [number, number];
  const { inputs, errors } = surpriseOf(piece.key, piece.value, carry.references, network);
  const outputs: tf.Tensor[] = [];
  let { weights, momenta } = carry;
  for (let t = 0; t < size; t++) {
    const row = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, t, 0], [count, 1, x.shape[2]!]);
    const gate = (x: tf.Tensor): tf.Tensor => tf.reshape(tf.slice(x, [0, t], [count, 1]), [count, 1, 1]);
    const step = tf.neg(gate(piece.stepSize));
    const push = inputs.map((input, index) => tf.matMul(tf.mul(row(input), step), row(errors[index]!), true, false));
    const decay = tf.exp(gate(piece.logDecay));
    if (piece.logMomentum) {
      const keep = tf.exp(gate(piece.logMomentum));
      momenta = momenta.map((momentum, index) => tf.add(tf.mul(keep, momentum), push[index]!));
    }
    const adds = (index: number): tf.Tensor => {
      if (!piece.logMomentum) return push[index]!;
      // a padded token adds no momentum to the weights
      return piece.valid ? tf.mul(gate(piece.valid), momenta[index]!) : momenta[index]!;
    };
    weights = weights.map((weight, index) => tf.add(tf.mul(decay, weight), adds(index)));
    const now = weights;
    const layers = now.map(
      (weight) =>
        (x: tf.Tensor): tf.Tensor =>
          tf.matMul(x, weight),
    );
    outputs.push(readNetwork(row(piece.query), layers, network));
  }
  return { output: tf.concat(outputs, 1), carry: { weights, momenta, references: carry.references } };
}
