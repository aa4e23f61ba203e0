import { CHUNK, SQUARE_STRIDE, keyStride, layoutChunk, transposedBytes, usePending, valuePadded, valueStride } from './linear-chunk';
import { SEGMENT } from './linear-kept';

// scratch of the gradient of linear attention. States lie transposed, [valueDim][keyPadded]: so do most products want them, and none needs both forms

/** bytes from one value column to the next where a chunk's rows lie transposed: [valuePadded][CHUNK] */
export const COLUMN_STRIDE: usize = CHUNK * 4;

/** bytes of the states of the heads that take turns, where that is possible: they fit the second cache beside the rows they are made of */
const NEAR: usize = 0x100000;

export let heads: i32 = 0; // heads that take turns
export let headBlock: usize = 0; // [heads] what each head keeps
export let headBytes: usize = 0;
let slots: i32 = 0; // states of a head: those before every chunk of a segment, and the one after
// of the head whose turn it is:
export let place: usize = 0; // [4] chunks of the segment that are left
export let starts: usize = 0; // [slots] first token of each chunk of the segment, and the segment's end
export let chunkStates: usize = 0; // [slots] states
export let dState: usize = 0;
export let nextDecay: usize = 0; // [keyStride] first decay of the chunk after this one
export let nextAlong: usize = 0; // [keyStride] sum over v of S dS per key channel, at the start of the chunk after this one
export let headPending: usize = 0; // [keyStride]
// of all heads:
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
  chunkStates = (starts + (<usize>slots << 2) + 63) & ~63;
  dState = chunkStates + transposedBytes * slots;
  nextDecay = dState + transposedBytes;
  nextAlong = nextDecay + keyStride;
  headPending = nextAlong + keyStride;
  usePending(headPending);
  return headPending + keyStride + 64;
}

/** Lays the scratch out from `at`; returns the end. */
export function layoutBackward(at: usize, allHeads: i32, dk: i32, dv: i32, mode: i32): usize {
  at = layoutChunk(at, dk, dv);
  const values = valueStride * CHUNK + 64;
  const keys = keyStride * CHUNK + 64;
  columns = at;
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
  // strong decays may end every chunk after one token
  slots = (mode ? SEGMENT : SEGMENT / CHUNK) + 1;
  heads = max(1, min(allHeads, <i32>(NEAR / (transposedBytes * (SEGMENT / CHUNK + 2)))));
  headBytes = 0;
  headBytes = (useHead(0) - headBlock + 63) & ~63;
  return headBlock + headBytes * heads;
}
