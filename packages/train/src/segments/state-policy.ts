import * as tf from '@tensorflow/tfjs-core';
import { fail, mapState, stopGradient, tidy } from '@seqloom/core';
import type { State } from '@seqloom/core';

/** Positions count and marks hold no numbers: neither carries gradients. */
export function carriesGradient(name: string, tensor: tf.Tensor): boolean {
  return tensor.size > 0 && !/(^|\.)position$/.test(name);
}

/**
 * The same numbers, through which no gradient goes back, for use inside a loss.
 *
 * A state that an earlier training step returned needs none of this: it is a constant on the tape.
 *
 * @param state stays the caller's
 * @param chosen state tensors to detach, by name; default: all
 * @returns a new record, owned by the caller
 */
export function detachState(state: State, chosen: (name: string) => boolean = () => true): State {
  return mapState(state, (tensor, name) => (chosen(name) && carriesGradient(name, tensor) ? stopGradient(tensor) : tf.clone(tensor)));
}

// extent of a mark of which rows have nothing in common; marks take no memory
const DIFFERS = 2 ** 20;

/**
 * Starts some rows anew, as streams of documents need where one ends: `state <- where(done, 0, state)`.
 *
 * @param state of B rows; stays the caller's
 * @param done per row, whether it starts anew
 * @returns a new record, owned by the caller; a state of zeros is where every mixer starts
 * @throws SeqLoomError when there is not one entry per row
 */
export function resetRows(state: State, done: readonly boolean[]): State {
  const batch = state.position.shape[0]!;
  if (done.length !== batch) {
    fail({
      mechanism: 'resetRows',
      argument: 'done',
      wanted: `${batch} entries, one per row`,
      given: String(done.length),
      remedy: 'Say for every row whether it starts anew.',
    });
  }
  return tidy(() => {
    const keep = tf.tensor1d(done.map((ended) => (ended ? 0 : 1)));
    return mapState(state, (tensor) => {
      // a mark tells the host what all rows have in common, and rows that start anew have another place
      const mark = tensor.rank > 2 && tensor.shape.slice(2).includes(0);
      if (mark && tensor.shape[1]! > 0 && done.includes(true) && !done.every(Boolean))
        return tf.zeros([batch, DIFFERS, ...tensor.shape.slice(2)]);
      if (mark && done.every(Boolean)) return tf.zeros([batch, 0, ...tensor.shape.slice(2)]);
      if (tensor.size === 0) return tf.clone(tensor);
      return tf.mul(tensor, tf.reshape(keep, [batch, ...tensor.shape.slice(1).map(() => 1)]));
    });
  });
}

/**
 * Number of segments per sample at a training step: stages that each last a number of steps, the last one for ever.
 *
 * @param step 0 for the first
 * @param stages segments and steps of each stage, e.g. 1, 2, 4, 8 segments
 * @throws SeqLoomError without a stage
 */
export function segmentsAt(step: number, stages: readonly { readonly segments: number; readonly steps: number }[]): number {
  if (stages.length === 0) {
    fail({ mechanism: 'segmentsAt', argument: 'stages', wanted: 'at least one', given: 'none', remedy: 'Begin with one segment.' });
  }
  let end = 0;
  for (const stage of stages) {
    end += stage.steps;
    if (step < end) return stage.segments;
  }
  return stages.at(-1)!.segments;
}
