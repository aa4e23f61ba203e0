import * as tf from '@tensorflow/tfjs-core';
import { fail } from '../error.ts';
import { readSafetensors, writeSafetensors } from '../safetensors/memory.ts';
import type { State } from './state.ts';

const FORMAT = 'seqloom.state';
const VERSION = '1';

/**
 * Writes a state as a safetensors file in memory; the numbers are kept bit for bit.
 *
 * @param state stays the caller's
 * @param metadata strings to keep beside it; the key `seqloom.state` is taken
 * @returns the file; hand it to `loadState`, also in another process or on another backend
 */
export async function saveState(state: State, metadata: Readonly<Record<string, string>> = {}): Promise<Uint8Array<ArrayBuffer>> {
  const entries = await Promise.all(
    Object.entries(state).map(async ([name, tensor]) => {
      const data = (await tensor.data()) as Float32Array;
      return [name, { dtype: 'F32' as const, shape: [...tensor.shape], data }] as const;
    }),
  );
  return writeSafetensors(entries, { metadata: { ...metadata, [FORMAT]: VERSION } });
}

/**
 * Reads a state that `saveState` wrote.
 *
 * @param bytes the whole file
 * @returns a state on the current backend, owned by the caller; the mixer that gets it checks names and shapes
 * @throws {SeqLoomError} when the file is damaged, is not a state, or its tensors do not share one batch; no tensor is made then
 */
export function loadState(bytes: Uint8Array | ArrayBuffer): State {
  const { tensors, metadata } = readSafetensors(bytes);
  const remedy = 'Pass bytes that saveState returned.';
  if (metadata[FORMAT] !== VERSION) {
    const given = metadata[FORMAT] === undefined ? 'a safetensors file that holds something else' : `version ${metadata[FORMAT]}`;
    fail({ mechanism: 'loadState', argument: 'bytes', wanted: `a saved state of version ${VERSION}`, given, remedy });
  }
  const batch = tensors['position']?.shape;
  if (batch?.length !== 1) {
    const given = batch ? `position [${batch.join(', ')}]` : `only ${Object.keys(tensors).join(', ') || 'nothing'}`;
    fail({ mechanism: 'loadState', argument: 'bytes', wanted: 'a state with position [B]', given, remedy });
  }
  for (const [name, { dtype, shape }] of Object.entries(tensors)) {
    if (dtype !== 'F32' || shape[0] !== batch[0]) {
      const given = `${dtype} [${shape.join(', ')}]`;
      fail({ mechanism: 'loadState', argument: name, wanted: `F32 with a batch of ${batch[0]} on axis 0`, given, remedy });
    }
  }
  // the file's bytes may be a view that the caller reuses, so the numbers are copied
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { shape, data }]) => [name, tf.tensor(Float32Array.from(data as Float32Array), [...shape])]),
  ) as unknown as State;
}
