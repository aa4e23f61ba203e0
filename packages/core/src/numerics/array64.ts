/** A dense row-major array in double precision: what specifications read and return. */
export interface Array64 {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}
