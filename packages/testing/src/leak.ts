import * as tf from '@tensorflow/tfjs-core';
import { afterEach, beforeEach, expect } from 'vitest';

/** What tfjs holds at one moment. */
export interface TensorCount {
  readonly tensors: number;
  /** data that the backend holds, also what its kernels made by themselves; null where the backend frees it later */
  readonly buffers: number | null;
}

/** Counts the tensors and the backend's buffers that are alive now. */
export function countTensors(): TensorCount {
  const deferred = tf.getBackend() === 'webgpu';
  return { tensors: tf.memory().numTensors, buffers: deferred ? null : tf.backend().numDataIds() };
}

/**
 * Runs a function and throws when afterwards more or fewer tensors are alive than before, also when it throws itself.
 *
 * @param fn sync or async; its error is passed on once the count is right
 * @param what names the work in the message
 * @returns what `fn` returned
 */
export async function expectNoLeak<T>(fn: () => T | Promise<T>, what = 'the work'): Promise<T> {
  const before = countTensors();
  let result: T;
  try {
    result = await fn();
  } catch (error) {
    const leak = leakFault(before, what);
    if (leak) throw new Error(leak, { cause: error });
    throw error;
  }
  const leak = leakFault(before, what);
  if (leak) throw new Error(leak);
  return result;
}

/** Says what leaked since a count was taken, or null. */
export function leakFault(before: TensorCount, what: string): string | null {
  const after = countTensors();
  if (after.tensors !== before.tensors) return `${what} changed the number of tensors from ${before.tensors} to ${after.tensors}`;
  if (after.buffers !== before.buffers) return `${what} changed the number of backend buffers from ${before.buffers} to ${after.buffers}`;
  return null;
}

/** Fails every test of the file, or of the `describe` that it is called in, which leaves more or fewer tensors than it found; call it after the set-up. */
export function failOnLeaks(): void {
  let before = 0;
  beforeEach(() => {
    before = tf.memory().numTensors;
  });
  afterEach(() => {
    expect(tf.memory().numTensors, 'tensors after the test').toBe(before);
  });
}
