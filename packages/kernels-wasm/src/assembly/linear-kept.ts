import { SQUARE_STRIDE, layoutChunk, valueStride } from './linear-chunk';

// what the forward of a delta rule leaves for its gradient: per head and token a row of X (the update before beta), then a row of N

let kept: usize = 0; // [batch][heads][length][valueStride]
let squares: usize = 0; // [batch][heads][length][SQUARE_STRIDE]
let allHeads: i32 = 0;
let tokens: i32 = 0;

/** Bytes of it, with room for reads beyond the end. */
export function linearKeptBytes(batch: i32, heads: i32, dk: i32, dv: i32, length: i32): i32 {
  layoutChunk(0, dk, dv);
  return <i32>((valueStride + SQUARE_STRIDE) * (batch * heads * length)) + 64;
}

/** Points at what a call keeps, or kept. */
export function useKept(at: usize, batch: i32, heads: i32, length: i32): void {
  kept = at;
  squares = at + valueStride * (batch * heads * length);
  allHeads = heads;
  tokens = length;
}

/** Row of X of token t. */
export function keptUpdate(b: i32, h: i32, t: i32): usize {
  return kept + valueStride * ((b * allHeads + h) * tokens + t);
}

/** Row of N of token t, the first of a chunk. */
export function keptSquare(b: i32, h: i32, t: i32): usize {
  return squares + SQUARE_STRIDE * ((b * allHeads + h) * tokens + t);
}
