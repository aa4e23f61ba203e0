import { CHUNK, layoutChunk, stateBytes, valueStride } from './linear-chunk';
import { PIECE_STRIDE } from './linear-pieces';

// what the forward leaves for its gradient: the states before every segment but the first, of each head; and for a delta rule
// per head and token a row of X (the update before beta), then of N among the six tokens of a piece

/** tokens from one kept state to the next: the gradient goes through so many twice, so what belongs to them should fit the second cache */
export const SEGMENT: i32 = CHUNK * 4;

let states: usize = 0; // [batch][heads][segments - 1] states [keyDim][valuePadded]
let updates: usize = 0; // [batch][heads][length][valueStride]
let squares: usize = 0; // [batch][heads][length][PIECE_STRIDE]
let heads: i32 = 0;
let tokens: i32 = 0;
let between: i32 = 0; // states of a head

/** Points at what a call keeps, or kept; returns the end of it. */
export function useKept(at: usize, batch: i32, headsInAll: i32, length: i32, delta: bool): usize {
  heads = headsInAll;
  tokens = length;
  between = (length - 1) / SEGMENT;
  states = at;
  updates = states + stateBytes * (batch * heads * between);
  const rows = delta ? batch * heads * length : 0;
  squares = updates + valueStride * rows;
  return squares + PIECE_STRIDE * rows;
}

/** Bytes of it, with room for reads beyond the end; none where there is nothing to keep. */
export function linearKeptBytes(batch: i32, heads: i32, dk: i32, dv: i32, length: i32, delta: bool): i32 {
  layoutChunk(0, dk, dv);
  const bytes = <i32>useKept(0, batch, heads, length, delta);
  return bytes > 0 ? bytes + 64 : 0;
}

/** State before segment `s` of a head, s at least 1. */
export function keptState(b: i32, h: i32, s: i32): usize {
  return states + stateBytes * ((b * heads + h) * between + s - 1);
}

/** Row of X of token t. */
export function keptUpdate(b: i32, h: i32, t: i32): usize {
  return updates + valueStride * ((b * heads + h) * tokens + t);
}

/** Row of N of token t. */
export function keptSquare(b: i32, h: i32, t: i32): usize {
  return squares + PIECE_STRIDE * ((b * heads + h) * tokens + t);
}
