import * as tf from '@tensorflow/tfjs-core';

interface Allocator {
  _malloc(bytes: number): number;
  _free(pointer: number): void;
}

/**
 * Largest number of bytes that calls on tfjs-wasm's heap hold at once beyond what was held before, outputs and scratch included.
 *
 * Counts what goes through the allocator's JavaScript door: all tensors and all scratch of kernels-wasm, not the insides of tfjs's own.
 */
export async function peakHeap(run: () => void | Promise<void>): Promise<number> {
  const { wasm } = tf.backend() as unknown as { wasm: Allocator };
  const before = { _malloc: wasm._malloc.bind(wasm), _free: wasm._free.bind(wasm) };
  const sizes = new Map<number, number>();
  let [held, peak] = [0, 0];
  wasm._malloc = (bytes) => {
    const pointer = before._malloc(bytes);
    sizes.set(pointer, bytes);
    held += bytes;
    peak = Math.max(peak, held);
    return pointer;
  };
  wasm._free = (pointer) => {
    // what was allocated before does not count
    held -= sizes.get(pointer) ?? 0;
    sizes.delete(pointer);
    before._free(pointer);
  };
  try {
    await run();
  } finally {
    Object.assign(wasm, before);
  }
  return peak;
}
