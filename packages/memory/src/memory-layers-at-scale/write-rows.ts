import * as tf from '@tensorflow/tfjs-core';
import type { Parameter } from '@seqloom/core';

/** What the cpu and the wasm backend have beside tfjs's own contract. */
interface HostBackend {
  /** wasm: where tensors lie */
  readonly dataIdMap?: { has(dataId: object): boolean };
  /** wasm: a view of the heap, valid until something is allocated */
  readonly typedArrayFromHeap?: (tensor: { dataId: object; dtype: string; shape: readonly number[] }) => Float32Array;
  /** cpu: the values themselves */
  readonly data?: { get(dataId: object): { values?: unknown } | undefined };
}

/**
 * The numbers of a tensor where they lie in this process, to be read and written without a copy; null on a GPU, or where the tensor was not
 * used on this backend yet. The view holds until something is allocated, and clones of the tensor see what is written.
 */
function numbersInPlace({ dataId, dtype, shape }: tf.Tensor): Float32Array | null {
  const backend = tf.backend() as unknown as HostBackend;
  if (backend.typedArrayFromHeap) return backend.dataIdMap?.has(dataId) ? backend.typedArrayFromHeap({ dataId, dtype, shape }) : null;
  // a backend on a GPU has neither
  const values = backend.data?.get(dataId)?.values;
  return values instanceof Float32Array ? values : null;
}

/**
 * Changes some rows of a parameter [V, E]: in place on cpu and wasm, whatever V is; on other backends the whole table is copied once.
 *
 * @param rows which, each once
 * @param change gets the place of a row in `rows` and its numbers, to be written over
 * @returns whether the rows were changed in place
 */
export async function changeRows(
  parameter: Parameter,
  rows: Int32Array,
  change: (place: number, row: Float32Array) => void,
): Promise<boolean> {
  const width = parameter.shape[1]!;
  const numbers = numbersInPlace(parameter.value);
  if (numbers) {
    for (const [place, row] of rows.entries()) change(place, numbers.subarray(row * width, (row + 1) * width));
    return true;
  }
  const places = tf.tensor2d(rows, [rows.length, 1], 'int32');
  const before = tf.gatherND(parameter.value, places);
  const values = Float32Array.from(await before.data());
  for (let place = 0; place < rows.length; place++) change(place, values.subarray(place * width, (place + 1) * width));
  tf.tidy(() => parameter.assign(tf.tensorScatterUpdate(parameter.value, places, tf.tensor2d(values, [rows.length, width]))));
  tf.dispose([places, before]);
  return false;
}
