import * as tf from '@tensorflow/tfjs-core';
import { randomStream, sizeOf } from '../oracle/array64.ts';

/** A float32 tensor on the host, row-major. */
export interface HostArray {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Uniform random numbers of variance `scale`^2, in [-1.73 scale, 1.73 scale). */
export function randomArray(shape: readonly number[], seed: number, scale = 1): HostArray {
  const next = randomStream(seed);
  const bound = Math.sqrt(3) * scale;
  return { shape, data: Float32Array.from({ length: sizeOf(shape) }, () => bound * (2 * next() - 1)) };
}

/** One value everywhere. */
export function fullArray(shape: readonly number[], value: number): HostArray {
  return { shape, data: new Float32Array(sizeOf(shape)).fill(value) };
}

/** A tensor with these numbers, owned by the caller. */
export function toTensor<T extends tf.Tensor = tf.Tensor>(array: HostArray): T {
  return tf.tensor(array.data.slice(), [...array.shape], 'float32') as T;
}

/** Copies a tensor to the host. */
export async function fromTensor(tensor: tf.Tensor): Promise<HostArray> {
  return { shape: [...tensor.shape], data: Float32Array.from(await tensor.data()) };
}

/** Row `b` as a batch of one. */
export function rowOf(array: HostArray, b: number): HostArray {
  const size = sizeOf(array.shape.slice(1));
  return { shape: [1, ...array.shape.slice(1)], data: array.data.slice(b * size, (b + 1) * size) };
}

/** Tokens [from, to) along axis 1 of [B, T, ...]. */
export function tokensOf(array: HostArray, from: number, to: number): HostArray {
  return pickTokens(
    array,
    Array.from({ length: to - from }, (_, i) => from + i),
  );
}

/** The given tokens along axis 1 of [B, T, ...], in their order. */
export function pickTokens(array: HostArray, tokens: readonly number[]): HostArray {
  const [batch, length, ...rest] = array.shape as [number, number, ...number[]];
  const width = sizeOf(rest);
  const data = new Float32Array(batch * tokens.length * width);
  for (let b = 0; b < batch; b++) {
    for (const [i, t] of tokens.entries()) {
      const start = (b * length + t) * width;
      data.set(array.data.subarray(start, start + width), (b * tokens.length + i) * width);
    }
  }
  return { shape: [batch, tokens.length, ...rest], data };
}

/** Joins [B, T1, ...], [B, T2, ...], ... along axis 1. */
export function joinTokens(parts: readonly HostArray[]): HostArray {
  const [batch, , ...rest] = parts[0]!.shape as [number, number, ...number[]];
  const width = sizeOf(rest);
  const total = parts.reduce((sum, part) => sum + part.shape[1]!, 0);
  const data = new Float32Array(batch * total * width);
  for (let b = 0; b < batch; b++) {
    let at = b * total * width;
    for (const part of parts) {
      const size = part.shape[1]! * width;
      data.set(part.data.subarray(b * size, (b + 1) * size), at);
      at += size;
    }
  }
  return { shape: [batch, total, ...rest], data };
}

/** Joins batches along axis 0. */
export function joinRows(parts: readonly HostArray[]): HostArray {
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.data.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part.data, at);
    at += part.data.length;
  }
  return { shape: [parts.reduce((sum, part) => sum + part.shape[0]!, 0), ...parts[0]!.shape.slice(1)], data };
}

/** First NaN or infinity, in words, or null. */
export function finiteFault(label: string, data: ArrayLike<number>): string | null {
  for (let i = 0; i < data.length; i++) if (!Number.isFinite(data[i]!)) return `${label} is ${data[i]} at index ${i}`;
  return null;
}

/** First bit that differs, in words, or null. */
export function bitFault(label: string, given: HostArray, wanted: HostArray): string | null {
  if (!tf.util.arraysEqual([...given.shape], [...wanted.shape])) {
    return `${label} has shape [${given.shape.join(', ')}], expected [${wanted.shape.join(', ')}]`;
  }
  const index = given.data.findIndex((value, i) => !Object.is(value, wanted.data[i]));
  return index < 0 ? null : `${label} is ${given.data[index]} at index ${index}, expected ${wanted.data[index]} to the bit`;
}
