import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { linearAttentionUpdate, registerGradients } from '@seqloom/core';
import { describe, expect, it } from 'vitest';
import { Heap } from './heap.ts';
import type { WasmBackend } from './heap.ts';
import { binaryOf } from './load.ts';
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

describe('what a forward keeps for its gradient', () => {
  const x = (): tf.Tensor4D => tf.randomNormal([1, 30, 2, 8]);
  const inputsOf = (key: tf.Tensor4D) => ({ query: key, key, value: key, beta: tf.ones([1, 30, 2]) as tf.Tensor3D });

  it('is on the heap from the forward to the end of the tape, and nowhere without a tape', async () => {
    await tf.setBackend('wasm');
    registerGradients();
    const used = await useWasmKernels();
    const { wasm } = tf.backend() as WasmBackend;
    const sizes: number[] = [];
    const noting = (use: () => void): number[] => {
      sizes.length = 0;
      const malloc = wasm._malloc;
      wasm._malloc = (bytes) => {
        sizes.push(bytes);
        return malloc(bytes);
      };
      use();
      wasm._malloc = malloc;
      return [...sizes];
    };
    tf.tidy(() => {
      const given = inputsOf(x());
      const { kernels } = new Heap(tf.backend() as WasmBackend, new WebAssembly.Module(binaryOf('simd')));
      // behind the final state: per head and token a row of X (8 floats) and one of N (8)
      const kept = kernels.linearKeptBytes(1, 2, 8, 8, 30, true);
      expect(kept).toBe(2 * 30 * (8 + 8) * 4 + 64);
      const room = 2 * 8 * 8 * 4 + kept + 16;
      expect(noting(() => void linearAttentionUpdate(given, { updateRule: 'delta' }))).not.toContain(room);
      const gradient = (): tf.Tensor =>
        tf.grad((key) => tf.sum(linearAttentionUpdate({ ...given, key: key as tf.Tensor4D }, { updateRule: 'delta' }).output))(given.key);
      const taped = noting(gradient);
      expect(taped).toContain(room);
      // and found there: the scratch of the gradient has no room for it
      const [withKept, without] = [true, false].map((withKept) => kernels.linearBackwardBytes(2, 1, 8, 8, true, 30, withKept) + 16);
      expect([taped.includes(without!), taped.includes(withKept!)]).toEqual([true, false]);
      const { left, error } = withFullHeap(wasm, Infinity, () => gradient().dispose());
      expect([left, error]).toEqual([0, undefined]);
    });
    used.undo();
  });

  it('is not looked for behind data that was moved to another backend and back', async () => {
    await tf.setBackend('wasm');
    const used = await useWasmKernels();
    const backend = tf.backend() as WasmBackend;
    const heap = new Heap(backend, await WebAssembly.compile(binaryOf('simd')));
    const tensor = tf.engine().makeTensorFromTensorInfo(heap.outputWithRoom([2, 3], 100));
    expect(heap.roomBehind(tensor) % 16).toBe(0);
    expect(heap.roomBehind(tensor)).toBeGreaterThanOrEqual(heap.pointer(tensor) + 24);
    const copy = tf.clone(tensor);
    expect(heap.roomBehind(copy)).toBe(heap.roomBehind(tensor));
    await tf.setBackend('cpu');
    tf.neg(tensor).dispose();
    await tf.setBackend('wasm');
    tf.neg(tensor).dispose();
    expect(heap.roomBehind(tensor)).toBe(0);
    expect(heap.roomBehind(undefined)).toBe(0);
    tf.dispose([tensor, copy]);
    used.undo();
  });
});

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
