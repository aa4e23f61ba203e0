import * as tf from '@tensorflow/tfjs-core';
import type { State, StateShapes } from '@seqloom/core';

/** The axis of a state tensor that grows with the tokens, or -1. */
function growing(shapes: StateShapes, name: string): number {
  return (shapes[name] ?? []).indexOf('length');
}

/** Shapes in which growing axes have room for `capacity` tokens. */
export function boundedShapes(shapes: StateShapes, capacity: number): StateShapes {
  const entries = Object.entries(shapes).map(([name, shape]) => [name, shape.map((axis) => (axis === 'length' ? capacity : axis))]);
  return Object.fromEntries(entries) as StateShapes;
}

/**
 * Gives every growing tensor of a state room for exactly `count` tokens: the newest stay, zeros stand in front.
 *
 * Rows of a growing tensor are right aligned and unused ones have no weight, so this changes nothing as long as no row has more tokens.
 */
export function fitCache(state: State, shapes: StateShapes, count: number): State {
  const entries = Object.entries(state).map(([name, tensor]) => {
    const axis = growing(shapes, name);
    if (axis < 0 || tensor.shape[axis] === count) return [name, tensor];
    const have = tensor.shape[axis]!;
    if (have > count) {
      const begin = tensor.shape.map((_, i) => (i === axis ? have - count : 0));
      return [
        name,
        tf.slice(
          tensor,
          begin,
          tensor.shape.map((extent, i) => (i === axis ? count : extent)),
        ),
      ];
    }
    const missing = tf.zeros(tensor.shape.map((extent, i) => (i === axis ? count - have : extent)));
    return [name, have === 0 ? missing : tf.concat([missing, tensor], axis)];
  });
  return Object.fromEntries(entries) as unknown as State;
}

/** A state whose rows are set to zero where `flag` [B] is 1. */
export function resetRows(state: State, flag: tf.Tensor1D): State {
  const keep = tf.sub(1, flag);
  const entries = Object.entries(state).map(([name, tensor]) => [
    name,
    tensor.size === 0 ? tensor : tf.mul(tensor, tf.reshape(keep, [flag.shape[0], ...tensor.shape.slice(1).map(() => 1)])),
  ]);
  return Object.fromEntries(entries) as unknown as State;
}
