import * as tf from '@tensorflow/tfjs-core';
import { fail } from '../error.ts';

/**
 * What a mixer carries from piece to piece: a flat record of float32 tensors with the batch on axis 0.
 *
 * `position` [B] counts the valid tokens that each row has seen. States are immutable: a forward returns a new one, and rolling back
 * is keeping the old object.
 */
export interface State {
  readonly [name: string]: tf.Tensor;
  readonly position: tf.Tensor;
}

/** Shape of one state tensor; `length` marks an axis that grows with the tokens seen. */
export type StateShape = readonly (number | 'length')[];

/** Shapes of all state tensors but `position`. */
export type StateShapes = Readonly<Record<string, StateShape>>;

/** Zeros for a start: position 0, growing axes empty. */
export function zeroState(batch: number, shapes: StateShapes): State {
  const entries = Object.entries(shapes).map(([name, shape]) => [name, tf.zeros(shape.map((axis) => (axis === 'length' ? 0 : axis)))]);
  return { ...Object.fromEntries(entries), position: tf.zeros([batch]) } as State;
}

/** Bytes of a state with these shapes after `length` tokens, position included. */
export function bytesOfShapes(batch: number, length: number, shapes: StateShapes): number {
  const numbers = Object.values(shapes).map((shape) => shape.reduce<number>((n, axis) => n * (axis === 'length' ? length : axis), 1));
  return 4 * (numbers.reduce((a, b) => a + b, 0) + batch);
}

/** Bytes that the buffers of a state hold. */
export function stateBytes(state: State): number {
  return Object.values(state).reduce((sum, tensor) => sum + tensor.size * 4, 0);
}

/** A second owner of the same values; dispose both. */
export function cloneState(state: State): State {
  return mapState(state, (tensor) => tf.clone(tensor));
}

/** Frees the tensors of a state. */
export function disposeState(state: State): void {
  tf.dispose(Object.values(state));
}

/** Takes a state out of the surrounding `tf.tidy`; dispose it yourself. */
export function keepState(state: State): State {
  return mapState(state, (tensor) => tf.keep(tensor));
}

/**
 * Picks, repeats or reorders rows of the batch, as beam search and dropping finished rows need.
 *
 * @param rows indices into the batch, in the new order
 */
export function selectRows(state: State, rows: readonly number[]): State {
  const batch = state.position.shape[0]!;
  const wrong = rows.find((row) => !Number.isInteger(row) || row < 0 || row >= batch);
  if (rows.length === 0 || wrong !== undefined) {
    fail({
      mechanism: 'selectRows',
      argument: 'rows',
      wanted: `at least one row index in [0, ${batch})`,
      given: rows.length === 0 ? 'none' : String(wrong),
      remedy: 'Pass the indices of the rows to keep, in their new order.',
    });
  }
  return tf.tidy(() => {
    const indices = tf.tensor1d([...rows], 'int32');
    return mapState(state, (tensor) =>
      tensor.size === 0 ? tf.zeros([rows.length, ...tensor.shape.slice(1)]) : tf.gather(tensor, indices),
    );
  });
}

/** Applies a function to every tensor of a state. */
export function mapState(state: State, change: (tensor: tf.Tensor, name: string) => tf.Tensor): State {
  return Object.fromEntries(Object.entries(state).map(([name, tensor]) => [name, change(tensor, name)])) as unknown as State;
}

/** The part of a composite state whose names start with `prefix.`, without the prefix. */
export function childState(state: State, prefix: string): State {
  const start = `${prefix}.`;
  const entries = Object.entries(state).filter(([name]) => name.startsWith(start));
  return Object.fromEntries(entries.map(([name, tensor]) => [name.slice(start.length), tensor])) as unknown as State;
}

/** Joins the states of children under their prefixes into one flat record. */
export function joinStates(position: tf.Tensor, children: Readonly<Record<string, State>>): State {
  const entries = Object.entries(children).flatMap(([prefix, child]) =>
    Object.entries(child).map(([name, tensor]) => [`${prefix}.${name}`, tensor] as const),
  );
  return { ...Object.fromEntries(entries), position };
}

/** Refuses a state that is not one of this mechanism for this batch. */
export function checkState(mechanism: string, state: State, batch: number, shapes: StateShapes): void {
  const expected: StateShapes = { ...shapes, position: [batch] };
  const remedy = 'Pass the state that this mixer returned for the same batch, or leave it out to start anew.';
  const names = Object.keys(expected).toSorted().join(', ');
  const given = Object.keys(state).toSorted().join(', ');
  if (names !== given) fail({ mechanism, argument: 'state', wanted: `a record of ${names}`, given: given || 'an empty record', remedy });
  for (const [name, shape] of Object.entries(expected)) {
    const tensor = state[name]!;
    const fits = tensor.rank === shape.length && shape.every((axis, i) => axis === 'length' || axis === tensor.shape[i]);
    if (!fits || tensor.dtype !== 'float32') {
      fail({
        mechanism,
        argument: `state.${name}`,
        wanted: `float32 [${shape.join(', ')}]`,
        given: `${tensor.dtype} [${tensor.shape.join(', ')}]`,
        remedy,
      });
    }
  }
}
