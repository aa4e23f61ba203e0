import { fail } from '@seqloom/core/error';
import type { DeviceBuffer, Extents3 } from './load.ts';

/** An array of float32 numbers in row-major order, on the host or on the device. */
export interface GpujsArray {
  readonly shape: readonly number[];
  /** a Float32Array, or a buffer on the device (mode webgpu only) */
  readonly data: Float32Array | DeviceBuffer;
}

/** An array on the host. */
export interface HostArray extends GpujsArray {
  readonly data: Float32Array;
}

/** Number of elements of a shape. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/** Whether an array lives on the device. */
export function isOnDevice(array: GpujsArray): array is GpujsArray & { data: DeviceBuffer } {
  return !(array.data instanceof Float32Array);
}

/** Index arithmetic runs in float32 where it divides: beyond this a channel index could round to its neighbour. */
const largestWidth = 2 ** 21;

/**
 * Checks one argument: number of axes, extents where they are known, number of elements.
 *
 * @param wanted extents; null where any is right
 */
export function checkArray(mechanism: string, argument: string, array: GpujsArray, wanted: readonly (number | null)[]): void {
  const words = (shape: readonly (number | null)[]): string => `[${shape.map((extent) => extent ?? 'any').join(', ')}]`;
  const refuse = (want: string, given: string, remedy: string): never => fail({ mechanism, argument, wanted: want, given, remedy });
  const { shape, data } = array;
  if (shape.length !== wanted.length || wanted.some((extent, axis) => extent !== null && extent !== shape[axis])) {
    refuse(`of shape ${words(wanted)}`, words(shape), 'Reshape it: only the shape is read, the numbers stay where they are.');
  }
  const size = sizeOf(shape);
  if (size < 1) refuse('without empty axes', words(shape), 'Leave the call out: there is nothing to compute.');
  if (shape.at(-1)! > largestWidth) refuse(`at most ${largestWidth} wide`, words(shape), 'Split the last axis.');
  const held = data instanceof Float32Array ? data.length : data.buffer.size / 4;
  if (data instanceof Float32Array ? held !== size : held < size) {
    refuse(`${size} numbers for its shape ${words(shape)}`, `${held}`, 'Give the shape that belongs to the data.');
  }
}

/** An array seen with three extents, innermost first; the numbers stay as they are. */
export interface View {
  readonly array: GpujsArray;
  readonly extents: Extents3;
}

/** Sees an array with given extents. */
export function view(array: GpujsArray, x: number, y = 1, z = 1): View {
  return { array, extents: [x, y, z] };
}
