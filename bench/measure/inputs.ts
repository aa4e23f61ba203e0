import type { Array64 } from '../../packages/testing/src/oracle/index.ts';
import { randomStream } from '../../packages/testing/src/oracle/index.ts';
import type { HostArray } from './tfjs.ts';

const size = (shape: readonly number[]): number => shape.reduce((product, extent) => product * extent, 1);

/** Uniform numbers in [low, high), the same at every start. */
export function uniform(shape: readonly number[], seed: number, low = -1, high = 1): HostArray {
  const next = randomStream(seed);
  const data = new Float32Array(size(shape));
  for (let place = 0; place < data.length; place++) data[place] = low + (high - low) * next();
  return { shape, data };
}

/** Uniform rows of unit length along the last axis, as delta rules want their keys. */
export function unitRows(shape: readonly number[], seed: number): HostArray {
  const array = uniform(shape, seed);
  const width = shape.at(-1)!;
  for (let row = 0; row < array.data.length; row += width) {
    const values = array.data.subarray(row, row + width);
    const norm = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
    for (let place = 0; place < width; place++) values[place]! /= norm;
  }
  return array;
}

/** The same numbers in double precision, for an oracle. */
export function doubles({ shape, data }: HostArray): Array64 {
  return { shape, data: Float64Array.from(data) };
}

/** Index `index` of axis 2 of a [B, T, H, ...] array, in double precision with that axis of extent 1. */
export function headOf({ shape, data }: HostArray, index: number): Array64 {
  return { shape: [shape[0]!, shape[1]!, 1, ...shape.slice(3)], data: Float64Array.from(pickHead(data, shape, index)) };
}

/** The numbers of one head out of flat [B, T, H, ...] numbers. */
export function pickHead(values: ArrayLike<number>, shape: readonly number[], index: number): Float64Array {
  const heads = shape[2]!;
  const width = size(shape.slice(3));
  const rows = shape[0]! * shape[1]!;
  const picked = new Float64Array(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let place = 0; place < width; place++) picked[row * width + place] = values[(row * heads + index) * width + place]!;
  }
  return picked;
}

/** Bytes of float32 arrays, each once. */
export function bytesOf(arrays: Iterable<{ readonly shape: readonly number[] }>): number {
  let bytes = 0;
  for (const { shape } of arrays) bytes += 4 * size(shape);
  return bytes;
}

/**
 * Holds gradients to the oracle along one random direction: sum of gradient times direction against the central difference of the
 * loss, in double precision.
 *
 * @param loss the loss as a function of all differentiable inputs, in double precision
 */
export function directionCheck(
  inputs: Readonly<Record<string, HostArray>>,
  loss: (inputs: Record<string, Array64>) => number,
  tolerance = 1e-3,
): (outputs: Readonly<Record<string, ArrayLike<number>>>) => string | null {
  const directions = Object.entries(inputs).map(([name, { shape }], index) => [name, uniform(shape, 900 + index).data] as const);
  const moved = (step: number): number =>
    loss(
      Object.fromEntries(
        directions.map(([name, direction]) => [
          name,
          { shape: inputs[name]!.shape, data: Float64Array.from(inputs[name]!.data, (value, place) => value + step * direction[place]!) },
        ]),
      ),
    );
  const step = 1e-6;
  const wanted = (moved(step) - moved(-step)) / (2 * step);
  return (outputs) => {
    let [given, magnitude] = [0, 0];
    for (const [name, direction] of directions) {
      const gradient = outputs[`gradient of ${name}`]!;
      for (let place = 0; place < direction.length; place++) {
        given += gradient[place]! * direction[place]!;
        magnitude += (gradient[place]! * direction[place]!) ** 2;
      }
    }
    // a sum of many terms of either sign is measured by what such a sum is expected to be
    const error = Math.abs(given - wanted) / Math.max(Math.abs(wanted), Math.sqrt(magnitude));
    return error <= tolerance
      ? null
      : `gradients: ${digitsOf(given)} along a random direction, ${digitsOf(wanted)} by central differences of the float64 oracle`;
  };
}

const digitsOf = (value: number): string => value.toPrecision(6);
