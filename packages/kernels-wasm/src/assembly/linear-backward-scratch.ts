import { CHUNK, ROWS_PANEL, SQUARE_STRIDE, keyStride, layoutChunk, stateBytes, usePending, valuePanels } from './linear-chunk';

// scratch of the gradient of linear attention

export let segment: i32 = 0; // chunks whose states are kept
export let heads: i32 = 0; // heads that take turns
export let headBlock: usize = 0; // [heads] what each head keeps
export let headBytes: usize = 0;
// of the head whose turn it is:
export let place: usize = 0; // [4] chunks, chunk whose gradient comes next, segment whose states are kept
export let starts: usize = 0; // [length + 1] first token of each chunk
export let chunkStates: usize = 0; // [segment] states
export let segmentStates: usize = 0; // [segments] states
export let updates: usize = 0; // [segment] U in panels
export let raws: usize = 0; // [segment] X in panels (delta rules)
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
export let stateT: usize = 0; // [keyPanels][valuePanels * 8][8]
export let dStateT: usize = 0;
export let transposedPanel: usize = 0;
export let dUpdate: usize = 0; // panels
export let dOut: usize = 0; // panels
export let updateT: usize = 0; // [3][valuePanels * 8][8]
export let updateRows: usize = 0; // [CHUNK][valuePanels * 8]
export let dRows: usize = 0; // [CHUNK][valuePanels * 8]
export let keyHatRows: usize = 0; // panels [keyPanels][CHUNK][8]
export let keyTildeRows: usize = 0;
export let queryRows: usize = 0;
export let dSquare: usize = 0;
export let dQuery: usize = 0; // [CHUNK][keyStride]
export let dKeyTilde: usize = 0;
export let dKeyHat: usize = 0;
export let dLog: usize = 0; // [CHUNK][keyStride] gradient of the sums of log decays
export let dBetas: usize = 0;
export let firstDecay: usize = 0; // [keyStride] of the chunk
export let along: usize = 0; // [keyStride] sum over v of S dS, at the start of the chunk

/** Points at what head `i` of the group keeps; returns the end of it. */
export function useHead(i: i32): usize {
  place = headBlock + headBytes * i;
  starts = place + 16;
  chunkStates = (starts + (<usize>(tokens + 1) << 2) + 15) & ~15;
  segmentStates = chunkStates + stateBytes * segment;
  updates = segmentStates + stateBytes * segments;
  raws = updates + updateBytes * segment;
  state = raws + (withRaws ? updateBytes * segment : 0);
  dState = state + stateBytes;
  nextDecay = dState + stateBytes;
  nextAlong = nextDecay + keyStride;
  headPending = nextAlong + keyStride;
  usePending(headPending);
  return headPending + keyStride + 64;
}

/** Lays the scratch out from `at`; returns the end. */
export function layoutBackward(at: usize, allHeads: i32, dk: i32, dv: i32, length: i32, delta: bool): usize {
  at = layoutChunk(at, dk, dv, 1);
  updateBytes = ROWS_PANEL * valuePanels;
  const square = SQUARE_STRIDE * CHUNK + 64;
  const keyRows = keyStride * CHUNK + 64;
  const keyPanels = ROWS_PANEL * (keyStride >> 5);
  const transposed = <usize>(keyStride >> 5);
  transposedPanel = <usize>valuePanels << 8;
  stateT = at;
  dStateT = stateT + transposedPanel * transposed;
  dUpdate = dStateT + transposedPanel * transposed;
  dOut = dUpdate + updateBytes;
  updateT = dOut + updateBytes;
  updateRows = updateT + transposedPanel * 3;
  dRows = updateRows + updateBytes;
  keyHatRows = dRows + updateBytes;
  keyTildeRows = keyHatRows + keyPanels;
  queryRows = keyTildeRows + keyPanels;
  dSquare = queryRows + keyPanels;
  dQuery = dSquare + square;
  dKeyTilde = dQuery + keyRows;
  dKeyHat = dKeyTilde + keyRows;
  dLog = dKeyHat + keyRows;
  dBetas = dLog + keyRows;
  firstDecay = dBetas + CHUNK * 4;
  along = firstDecay + keyStride;
  headBlock = (along + keyStride + 64 + 15) & ~15;
  // as many states as chunks of full length need, but no more than 64 MiB: for as many heads as that holds, or for one
  const room = <i32>(<usize>0x4000000 / stateBytes);
  const chunks = (length + CHUNK - 1) / CHUNK;
  segment = max(16, min(chunks, room));
  segments = (length + segment - 1) / segment + 1;
  heads = max(1, min(allHeads, room / segment));
  tokens = length;
  withRaws = delta;
  headBytes = 0;
  headBytes = (useHead(0) - headBlock + 15) & ~15;
  return headBlock + headBytes * heads;
}

/** Bytes of scratch that linearBackward needs. */
export function linearBackwardBytes(allHeads: i32, dk: i32, dv: i32, length: i32, delta: bool): i32 {
  return <i32>layoutBackward(0, allHeads, dk, dv, length, delta);
}
