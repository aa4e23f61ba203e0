import '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { linearAttentionUpdate } from '@seqloom/core';
import { describe, expect, it } from 'vitest';
import type { WasmBackend } from './heap.ts';
import { useWasmKernels } from './use-wasm-kernels.ts';

/** Runs `use` with a heap that is full from the n-th allocation on; returns whether it threw, and the allocations it left behind. */
function withFullHeap(wasm: WasmBackend['wasm'], n: number, use: () => void): { error: unknown; left: number } {
  const { _malloc: malloc, _free: free } = wasm;
  const live = new Set<number>();
  let calls = 0;
  let error: unknown;
  wasm._malloc = (bytes) => {
    if (++calls >= n) return 0;
    const pointer = malloc(bytes);
    live.add(pointer);
    return pointer;
  };
  wasm._free = (pointer) => {
    live.delete(pointer);
    free(pointer);
  };
  try {
    use();
  } catch (thrown) {
    error = thrown;
  } finally {
    Object.assign(wasm, { _malloc: malloc, _free: free });
  }
  return { error, left: live.size };
}

describe('a full heap', () => {
  it('stops a call with one clear error, and nothing of the call stays on the heap', async () => {
    await tf.setBackend('wasm');
    const used = await useWasmKernels();
    const { wasm } = tf.backend() as WasmBackend;
    const x = tf.randomNormal([1, 8, 2, 8]) as tf.Tensor4D;
    const inputs = { query: x, key: x, value: x };
    const run = (): void => tf.dispose(Object.values(linearAttentionUpdate(inputs, { updateRule: 'linear' })) as tf.Tensor[]);
    run();
    const before = tf.memory().numTensors;
    let failures = 0;
    for (let n = 1; ; n++) {
      const { error, left } = withFullHeap(wasm, n, run);
      expect(left, `full at allocation ${n}`).toBe(0);
      expect(tf.memory().numTensors).toBe(before);
      if (error === undefined) break;
      expect(String(error)).toContain('a full heap');
      failures++;
    }
    // output, state and scratch
    expect(failures).toBe(3);
    expect((await linearAttentionUpdate(inputs, { updateRule: 'linear' }).output.data()).every(Number.isFinite)).toBe(true);
    used.undo();
  });
});
