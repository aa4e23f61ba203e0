import * as tf from '@tensorflow/tfjs-core';

/**
 * Leaves NaN in memory that the backend has freed, so that a kernel that reads before it writes shows it.
 *
 * tfjs-wasm takes tensors from a heap that is not cleared, and tfjs-webgpu reuses buffers; on `cpu` this changes nothing, since
 * JavaScript clears its arrays.
 *
 * @param sizes numbers of elements to leave behind; default: many small ones up to 64 Ki
 */
export function dirtyMemory(sizes: readonly number[] = DEFAULT_SIZES): void {
  const largest = new Float32Array(Math.max(...sizes)).fill(Number.NaN);
  const held: tf.Tensor[] = [];
  for (const size of sizes) held.push(tf.tensor1d(largest.subarray(0, size).slice()));
  // freed together, so that no later one fills the hole of an earlier one
  tf.dispose(held);
}

const DEFAULT_SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384, 65536].flatMap((size) =>
  Array.from({ length: size <= 1024 ? 16 : 2 }, () => size),
);

/**
 * A copy of `x` [B, T, ...] whose entries are replaced where `mask` [B, T] is zero.
 *
 * @param junk what stands at padding, default NaN
 */
export function poisonMasked(x: Float32Array, shape: readonly number[], mask: readonly number[], junk = Number.NaN): Float32Array {
  const width = shape.slice(2).reduce((n, extent) => n * extent, 1);
  return x.map((value, index) => (mask[Math.floor(index / width)] ? value : junk));
}
