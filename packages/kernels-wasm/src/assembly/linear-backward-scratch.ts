import { CHUNK, keyStride, layoutChunk, stateBytes, transposedBytes, useDecays, useKeys, usePending, valuePadded, valueStride } from './linear-chunk';
import { SEGMENT } from './linear-kept';
import { PIECE, PIECE_STRIDE } from './linear-pieces';

// scratch of the gradient of linear attention

/** bytes of what the heads that take turns keep, where that is possible: a second cache holds them while a segment is gone through */
const NEAR: usize = 0x200000;

export let headsAtATime: i32 = 0; // how many heads take turns
let headBlock: usize = 0; // [headsAtATime] what each head keeps
let headBytes: usize = 0;
// of the head whose turn it is:
export let state: usize = 0; // [valueDim][keyPadded] S transposed
export let dState: usize = 0; // [keyDim][valuePadded]
export let nextDecay: usize = 0; // [keyStride] first decay of the chunk after this one
export let endAlong: usize = 0; // [keyStride] sum over v of S dS per key channel, at the start of the segment after this one
export let startAlong: usize = 0; // [keyStride] the same, at the start of this segment
let headPending: usize = 0; // [keyStride]
export let chunks: usize = 0; // [1] chunks of the segment before the place where the walk is
export let starts: usize = 0; // [SEGMENT + 1] first token of each chunk, and the segment's end
// by tokens of the segment:
export let firstDecays: usize = 0; // [SEGMENT][keyStride] decay of the first token of each chunk (by chunk)
let keyHats: usize = 0; // [SEGMENT + PIECE][keyStride] K^
let decayRows: usize = 0; // [SEGMENT][keyStride] e, with decays per channel
let decayHeads: usize = 0; // [SEGMENT] e, with decays per head
export let dUpdates: usize = 0; // [SEGMENT + PIECE][valueStride] gradient of R, or of V
export let dKeyHats: usize = 0; // [SEGMENT][keyStride]
export let dLogs: usize = 0; // [SEGMENT][keyStride] gradient of the sums of log decays; with decays per head [SEGMENT] sums over the channels
export let blocks: usize = 0; // [SEGMENT][group + 1][PIECE_STRIDE] per piece the gradients of P of each query head, then that of -N
export let blockBytes: usize = 0; // of a token
// of all heads:
export let update: usize = 0; // [CHUNK][valueStride] U
export let updatePanel: usize = 0; // [valueDim][8] U of a piece, transposed
export let columns: usize = 0; // [keyPadded][8] rows of a piece, transposed
export let mixing: usize = 0; // [PIECE][group * PIECE + 2] P of a piece, transposed
export let mixingStride: usize = 0;
export let dOuts: usize = 0; // [group][PIECE][valueStride]
export let dPiece: usize = 0; // [PIECE][valueStride] gradient of U
export let rowsBefore: usize = 0; // [(group + 1) * PIECE][keyStride] Q~ of each query head, -K~
export let beforePanels: usize = 0; // [group + 1][keyDim][8] the same, transposed
export let dKeyTilde: usize = 0; // [PIECE][keyStride]
export let dQuery: usize = 0; // [PIECE][keyStride]
export let dBetas: usize = 0; // [PIECE][4]
export let turned: usize = 0; // [valueDim][keyPadded] a matrix of the state's size

/** Points at what head `i` of the group keeps; returns the end of it. */
export function useHead(i: i32): usize {
  state = headBlock + headBytes * i;
  dState = state + transposedBytes;
  nextDecay = dState + stateBytes;
  endAlong = nextDecay + keyStride;
  startAlong = endAlong + keyStride;
  headPending = startAlong + keyStride;
  chunks = headPending + keyStride;
  starts = chunks + 4;
  firstDecays = (starts + (SEGMENT + 1) * 4 + 63) & ~63;
  keyHats = firstDecays + keyStride * SEGMENT;
  decayRows = keyHats + keyStride * (SEGMENT + PIECE);
  decayHeads = decayRows + keyStride * SEGMENT;
  dUpdates = decayHeads + SEGMENT * 4;
  dKeyHats = dUpdates + valueStride * (SEGMENT + PIECE);
  dLogs = dKeyHats + keyStride * SEGMENT;
  blocks = dLogs + keyStride * SEGMENT;
  usePending(headPending);
  return blocks + blockBytes * SEGMENT + 64;
}

/** Makes token `place` of the segment the first of the chunk: its e and its K^. */
export function chunkFrom(place: i32): void {
  useDecays(decayRows + <usize>place * keyStride, decayHeads + (<usize>place << 2));
  useKeys(keyHats + <usize>place * keyStride);
}

/** Zeros behind the rows of a segment of `count` tokens: what its last piece of six lacks meets zeros, but must be numbers. */
export function endSegment(count: i32): void {
  memory.fill(keyHats + <usize>count * keyStride, 0, keyStride * PIECE);
  memory.fill(dUpdates + <usize>count * valueStride, 0, valueStride * PIECE);
}

/** Lays the scratch out from `at`; returns the end. */
export function layoutBackward(at: usize, allHeads: i32, group: i32, dk: i32, dv: i32): usize {
  update = layoutChunk(at, dk, dv);
  updatePanel = update + valueStride * CHUNK + 64;
  columns = updatePanel + (<usize>dv << 5);
  mixing = columns + (keyStride << 3);
  mixingStride = <usize>(group * PIECE + 2) << 2;
  dOuts = (mixing + mixingStride * PIECE + 127) & ~63;
  dPiece = dOuts + valueStride * (group * PIECE);
  rowsBefore = dPiece + valueStride * PIECE;
  beforePanels = rowsBefore + keyStride * ((group + 1) * PIECE);
  dKeyTilde = beforePanels + (<usize>dk << 5) * (group + 1);
  dQuery = dKeyTilde + keyStride * PIECE;
  dBetas = dQuery + keyStride * PIECE;
  turned = dBetas + PIECE * 16;
  headBlock = (turned + transposedBytes + 127) & ~63;
  blockBytes = PIECE_STRIDE * (group + 1);
  headBytes = 0;
  headBytes = (useHead(0) - headBlock + 63) & ~63;
  // groups of about one size
  const most = max(1, <i32>(NEAR / headBytes));
  const groups = (allHeads + most - 1) / most;
  headsAtATime = (allHeads + groups - 1) / groups;
  return headBlock + headBytes * headsAtATime;
}
