import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { SeqLoomError } from '../error.ts';
import { readSafetensors, writeSafetensors } from '../safetensors/memory.ts';
import { loadState, saveState } from './save.ts';
import { disposeState } from './state.ts';
import type { State } from './state.ts';

describe.each(['cpu', 'wasm'])('saved states on %s', (backend) => {
  let before = 0;
  beforeAll(async () => {
    await tf.setBackend(backend);
  });
  beforeEach(() => {
    before = tf.memory().numTensors;
  });
  afterEach(() => {
    expect(tf.memory().numTensors).toBe(before);
  });

  const make = (): State => ({
    'mixer.memory': tf.tensor([0, -0, 1e-42, 3.4e38, Math.fround(0.1), -7], [2, 3, 1]),
    'mixer.keys': tf.zeros([2, 0, 4]),
    position: tf.tensor1d([3, 5]),
  });

  it('come back bit for bit, empty tensors and denormals included', async () => {
    const state = make();
    const bytes = await saveState(state, { note: 'after three tokens' });
    const loaded = loadState(bytes);
    expect(Object.keys(loaded).toSorted()).toEqual(Object.keys(state).toSorted());
    for (const [name, tensor] of Object.entries(state)) {
      expect(loaded[name]!.shape).toEqual(tensor.shape);
      expect(new Uint8Array(Float32Array.from(await loaded[name]!.data()).buffer)).toEqual(
        new Uint8Array(Float32Array.from(await tensor.data()).buffer),
      );
    }
    expect(readSafetensors(bytes).metadata).toMatchObject({ note: 'after three tokens' });
    disposeState(state);
    disposeState(loaded);
  });

  it('stay what they were when the bytes are overwritten', async () => {
    const state = make();
    const bytes = await saveState(state);
    const loaded = loadState(bytes);
    bytes.fill(0);
    expect([...(await loaded.position.data())]).toEqual([3, 5]);
    disposeState(state);
    disposeState(loaded);
  });

  it('are refused when they are no states, before any tensor is made', async () => {
    const state = make();
    const good = await saveState(state);
    disposeState(state);
    const position = { dtype: 'F32' as const, shape: [2], data: new Float32Array(2) };
    const metadata = { 'seqloom.state': '1' };
    const bad: [Uint8Array, string][] = [
      [good.slice(0, good.length - 1), 'safetensors'],
      [writeSafetensors({ position }), 'loadState: bytes must be a saved state'],
      [writeSafetensors({ position }, { metadata: { 'seqloom.state': '2' } }), 'version 2'],
      [writeSafetensors({ memory: position }, { metadata }), 'position [B]'],
      [writeSafetensors({ position, memory: { dtype: 'F32', shape: [3], data: new Float32Array(3) } }, { metadata }), 'loadState: memory'],
      [writeSafetensors({ position, ids: { dtype: 'I32', shape: [2], data: new Int32Array(2) } }, { metadata }), 'I32 [2]'],
    ];
    for (const [bytes, message] of bad) {
      expect(() => loadState(bytes), message).toThrow(SeqLoomError);
      expect(() => loadState(bytes)).toThrow(message);
    }
  });
});
