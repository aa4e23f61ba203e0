/** A dense row-major array in double precision: what the specifications read and return. */
export interface Array64 {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** Zeros of a shape in double precision. */
export function zeros64(shape: readonly number[]): Array64 {
  return { shape: [...shape], data: new Float64Array(shape.reduce((size, extent) => size * extent, 1)) };
}
