import * as tf from '@tensorflow/tfjs-core';
import { fail } from '../error.ts';

/** Extents by dimension name; `checkTensor` fills it with the first tensor that has the dimension and holds later ones to it. */
export type Extents = Map<string, number>;

/**
 * Refuses a tensor whose rank, shape or dtype is not the wanted one.
 *
 * @param mechanism who refuses, e.g. `rms-norm`
 * @param argument name of the argument
 * @param tensor what was given
 * @param dimensions one entry per axis: a number (that extent), a name (the same extent wherever the name occurs, at least 1), or a
 *   name with a question mark (the extent may be 0)
 * @param extents extents met so far in this call, added to by this check
 * @param dtype wanted element type
 * @throws SeqLoomError when the tensor differs
 */
export function checkTensor(
  mechanism: string,
  argument: string,
  tensor: tf.Tensor | undefined,
  dimensions: readonly (string | number)[],
  extents: Extents = new Map<string, number>(),
  dtype: 'float32' | 'int32' = 'float32',
): asserts tensor is tf.Tensor {
  const right =
    tensor instanceof tf.Tensor &&
    tensor.dtype === dtype &&
    tensor.shape.length === dimensions.length &&
    dimensions.every((dimension, axis) => {
      const extent = tensor.shape[axis]!;
      if (typeof dimension === 'number') return extent === dimension;
      const name = dimension.replace('?', '');
      const known = extents.get(name);
      if (known === undefined && (extent > 0 || dimension.endsWith('?'))) extents.set(name, extent);
      return extents.get(name) === extent;
    });
  if (right) return;
  const axes = dimensions.map((dimension) => {
    if (typeof dimension === 'number') return String(dimension);
    const name = dimension.replace('?', '');
    return extents.has(name) ? `${name} = ${extents.get(name)}` : name;
  });
  fail({
    mechanism,
    argument,
    wanted: `a ${dtype} tensor of shape [${axes.join(', ')}]`,
    given: describe(tensor),
    remedy: `Give ${argument} in that layout (batch first, channels last).`,
  });
}

/** Refuses a setting; `right` says whether it is acceptable. */
export function checkSetting(mechanism: string, argument: string, right: boolean, wanted: string, given: unknown, remedy: string): void {
  if (right) return;
  // JSON would turn NaN into null
  const shown = typeof given === 'number' ? `${given}` : (JSON.stringify(given) ?? typeof given);
  fail({ mechanism, argument, wanted, given: shown, remedy });
}

/**
 * Refuses indices or lengths outside `lowest <= index < limit`.
 *
 * Reading them back is free on the backends whose memory JavaScript can see, and an index out of range would read or write foreign
 * memory there. Other backends are not asked: their own kernels ignore such an index.
 */
export function checkIndices(mechanism: string, argument: string, indices: tf.Tensor, limit: number, lowest = -Infinity): void {
  const backend = tf.getBackend();
  if (backend !== 'cpu' && backend !== 'wasm') return;
  const values = indices.dataSync();
  for (let place = 0; place < values.length; place++) {
    const value = values[place]!;
    if (value >= limit || value < lowest) {
      fail({
        mechanism,
        argument,
        wanted: lowest === -Infinity ? `below ${limit} everywhere` : `from ${lowest} to ${limit - 1} everywhere`,
        given: `${value} at place ${place}`,
        remedy: 'Check the values that are fed against the size of what they point into.',
      });
    }
  }
}

/** What was given, in words: `int32 [2, 3]`, or its type when it is no tensor. */
export function describe(value: unknown): string {
  return value instanceof tf.Tensor ? `${value.dtype} [${value.shape.join(', ')}]` : value === null ? 'null' : typeof value;
}
