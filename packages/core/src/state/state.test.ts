import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { bytesOfShapes, checkState, childState, cloneState, disposeState, joinStates, selectRows, stateBytes, zeroState } from './state.ts';

beforeAll(async () => {
  await tf.setBackend('cpu');
});

const shapes = { memory: [2, 3], cache: [2, 'length', 4] } as const;

describe('states', () => {
  it('start at zero with growing axes empty, and count their bytes', () => {
    const state = zeroState(2, shapes);
    expect(state.cache!.shape).toEqual([2, 0, 4]);
    expect(stateBytes(state)).toBe(bytesOfShapes(2, 0, shapes));
    expect(bytesOfShapes(2, 10, shapes)).toBe(4 * (6 + 80 + 2));
    disposeState(state);
  });

  it('clone, select and reorder rows without touching the old one', () => {
    const before = tf.memory().numTensors;
    const state = {
      memory: tf.tensor2d([
        [1, 2],
        [3, 4],
      ]),
      cache: tf.zeros([2, 0, 4]),
      position: tf.tensor1d([5, 6]),
    };
    const copy = cloneState(state);
    const picked = selectRows(state, [1, 1, 0]);
    disposeState(state);
    expect([...copy.memory!.dataSync()]).toEqual([1, 2, 3, 4]);
    expect([...picked.memory!.dataSync()]).toEqual([3, 4, 3, 4, 1, 2]);
    expect([...picked.position.dataSync()]).toEqual([6, 6, 5]);
    expect(picked.cache!.shape).toEqual([3, 0, 4]);
    expect(() => selectRows(copy, [2])).toThrow('at least one row index in [0, 2); got 2');
    disposeState(copy);
    disposeState(picked);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('join under prefixes and come apart again', () => {
    const child = { memory: tf.zeros([2, 3]), position: tf.zeros([2]) };
    const whole = joinStates(tf.zeros([2]), { 0: child, 10: child });
    expect(Object.keys(whole)).toEqual(['0.memory', '0.position', '10.memory', '10.position', 'position']);
    expect(childState(whole, '1')).toEqual({});
    expect(childState(whole, '10').memory).toBe(child.memory);
  });

  it('are refused when they belong to another mixer or batch', () => {
    const state = zeroState(2, shapes);
    expect(() => checkState('toy', state, 2, shapes)).not.toThrow();
    expect(() => checkState('toy', state, 3, { memory: [3, 3], cache: [3, 'length', 4] })).toThrow(
      'toy: state.memory must be float32 [3, 3]; got float32 [2, 3]',
    );
    expect(() => checkState('toy', { position: state.position }, 2, shapes)).toThrow(
      'toy: state must be a record of cache, memory, position; got position',
    );
  });
});
