import type { Array64 } from '@seqloom/core';

/** Zeros of a shape in double precision. */
export function zeros64(shape: readonly number[]): Array64 {
  return { shape: [...shape], data: new Float64Array(shape.reduce((size, extent) => size * extent, 1)) };
}
