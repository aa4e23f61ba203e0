import { CHUNK, SQUARE_STRIDE, keyStride, layoutChunk, transposedBytes, usePending, valuePadded, valueStride } from './linear-chunk';

// scratch of the gradient of linear attention. States lie transposed, [valueDim][keyPadded]: so do most products want them, and none needs both forms

/** bytes from one value column to the next where a chunk's rows lie transposed: [valuePadded][CHUNK] */
export const COLUMN_STRIDE: usize = CHUNK * 4;

/** bytes of a kept matrix N */
export const SQUARE_BYTES: usize = SQUARE_STRIDE * CHUNK + 64;

export let segment: i32 = 0; // chunks whose states are kept
export let heads: i32 = 0; // heads that take turns
export let headBlock: usize = 0; // [heads] what each head keeps
export let headBytes: usize = 0;
// of the head whose turn it is:
export let place: usize = 0; // [4] chunks, chunk whose gradient comes next, segment whose states are kept
export let starts: usize = 0; // [length + 1] first token of each chunk
export let chunkStates: usize = 0; // [segment] states
export let segmentStates: usize = 0; // [segments] states
export let raws: usize = 0; // [segment][CHUNK][valueStride] X: the update before beta (delta rules)
export let squares: usize = 0; // [segment][CHUNK][CHUNK] N (delta rules)
export let state: usize = 0;
export let dState: usize = 0;
export let nextDecay: usize = 0; // [keyStride] first decay of the chunk after this one
export let nextAlong: usize = 0; // [keyStride] sum over v of S dS per key channel, at the start of the chunk after this one
export let headPending: usize = 0; // [keyStride]
// of all heads:
export let updateBytes: usize = 0;
export let segments: i32 = 0;
export let tokens: i32 = 0;
export let withRaws: bool = false;
export let keyTildePanels: usize = 0; // [3][keyDim][8]: transposed
export let columns: usize = 0; // [valuePadded][CHUNK] rows of the chunk transposed; those beyond valueDim stay zero
export let update: usize = 0; // [CHUNK][valueStride] U
export let updatePanels: usize = 0; // [3][valueDim][8]: U transposed
export let dOut: usize = 0; // [2 * CHUNK][valueStride], the gradient of the update right below its rows
export let dSquare: usize = 0;
export let dQuery: usize = 0; // [CHUNK][keyStride]
export let dKeyTilde: usize = 0;
export let dKeyHat: usize = 0;
export let dLog: usize = 0; // [CHUNK][keyStride] gradient of the sums of log decays; with decays per head [CHUNK] sums over the channels
export let dBetas: usize = 0; // [CHUNK][4]
export let firstDecay: usize = 0; // [keyStride] of the chunk
export let along: usize = 0; // [keyStride] sum over v of S dS, at the start of the chunk

/** Points at what head `i` of the group keeps; returns the end of it. */
export function useHead(i: i32): usize {
  place = headBlock + headBytes * i;
  starts = place + 16;
  chunkStates = (starts + (<usize>(tokens + 1) << 2) + 63) & ~63;
  segmentStates = chunkStates + transposedBytes * segment;
  raws = segmentStates + transposedBytes * segments;
  squares = raws + (withRaws ? updateBytes * segment : 0);
  state = squares + (withRaws ? SQUARE_BYTES * segment : 0);
  dState = state + transposedBytes;
  nextDecay = dState + transposedBytes;
  nextAlong = nextDecay + keyStride;
  headPending = nextAlong + keyStride;
  usePending(headPending);
  return headPending + keyStride + 64;
}

/** Lays the scratch out from `at`; returns the end. */
export function layoutBackward(at: usize, allHeads: i32, dk: i32, dv: i32, length: i32, withUpdates: bool): usize {
  at = layoutChunk(at, dk, dv);
  updateBytes = valueStride * CHUNK;
  const values = updateBytes + 64;
  const keys = keyStride * CHUNK + 64;
  keyTildePanels = at;
  columns = keyTildePanels + (<usize>dk << 5) * 3;
  update = columns + COLUMN_STRIDE * valuePadded;
  updatePanels = update + values;
  dOut = updatePanels + (<usize>dv << 5) * 3;
  dSquare = dOut + values * 2;
  dQuery = dSquare + SQUARE_STRIDE * CHUNK + 64;
  dKeyTilde = dQuery + keys;
  dKeyHat = dKeyTilde + keys;
  dLog = dKeyHat + keys;
  dBetas = dLog + keys;
  firstDecay = dBetas + CHUNK * 16;
  along = firstDecay + keyStride;
  headBlock = (along + keyStride + 127) & ~63;
  // as many states as chunks of full length need, but no more than 64 MiB: for as many heads as that holds, or for one
  const room = <i32>(<usize>0x4000000 / transposedBytes);
  const chunks = (length + CHUNK - 1) / CHUNK;
  segment = max(16, min(chunks, room));
  segments = (length + segment - 1) / segment + 1;
  heads = max(1, min(allHeads, room / segment));
  tokens = length;
  withRaws = withUpdates;
  headBytes = 0;
  headBytes = (useHead(0) - headBlock + 63) & ~63;
  return headBlock + headBytes * heads;
}

/** Bytes of scratch that linearBackward needs; `withUpdates`: for a delta rule whose forward left nothing. */
export function linearBackwardBytes(allHeads: i32, dk: i32, dv: i32, length: i32, withUpdates: bool): i32 {
  return <i32>layoutBackward(0, allHeads, dk, dv, length, withUpdates);
}
