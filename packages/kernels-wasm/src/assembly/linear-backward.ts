import { packTransposed } from './gemm';
import { transposeMatrix } from './copy';
import {
  CHUNK, applyPendingTransposed, betas, chunkDecays, fillRow, keyDim, keyHat, keyPadded, keyStride, keyTilde, lastDecays, pending, prepareKeys, prepareQueries,
  readBetas, recallDecays, transposedBytes, useQueries, useSquare, valueDim, valuePadded, valueStride,
} from './linear-chunk';
import {
  beginCall, betaOffset, betaToken, decayMode, decayOffset, decayToken, entry, groupSize, head, keyOffset, keyStep, keyToken, offsetsOf, outOffset, outToken, outputScale, queryOffset,
  queryToken, stateOffset, tokens, valueOffset, valueStep, valueToken,
} from './linear-call';
import {
  beforePanels, blockBytes, blocks, chunkFrom, chunks, columns, dKeyHats, dKeyTilde, dLogs, dOuts, dPiece, dQuery, dState, dUpdates, endAlong, endSegment,
  firstDecays, headsAtATime, layoutBackward, mixing, mixingStride, nextDecay, rowsBefore, startAlong, starts, state, turned, update, updatePanel, useHead,
} from './linear-backward-scratch';
import { solveBackward, writeBetaGradient, writeDecayGradient, writeKeyGradient, writeQueryGradient } from './linear-backward-products';
import { linearForward, linearForwardBytes } from './linear-forward';
import { SEGMENT, keptSquare, keptState, keptUpdate, linearKeptBytes, useKept } from './linear-kept';
import { PIECE, PIECE_STRIDE, addPiece, lowerPiece } from './linear-pieces';
import { touchRows } from './memory';
import { copyScaled, scaleByColumn, scaleByRow, sumProducts, transposePiece, writeRows } from './linear-rows';
import { pairStrip, rowsTimes } from './linear-tile';
import { strip, stripColumns } from './tile';

// gradient of linear attention, segment by segment from the last. Each is gone through twice, in pieces of six tokens: from its end to its start with the gradient
// of the state, which needs no state, and from its start, whose state the forward kept, to its end with the state, which needs no gradient of it:
//   dU = K^ dS + P^T dO     dR = solved with N     dK^ = U dS^T + dP^T Q~ - dN^T K~     dS += Q~^T dO - K~^T dR
//   dQ~ = dO S^T + dP K^    dK~ = -dR S^T - dN K^                                        S += K^T U

/** tokens that a group of heads goes through before any goes on, as in the forward */
const TURN: i32 = CHUNK;

// arguments of the call, for the functions that go through a head
let queryAt: usize = 0;
let keyAt: usize = 0;
let valueAt: usize = 0;
let decayAt: usize = 0;
let betaAt: usize = 0;
let initialAt: usize = 0;
let dOutputAt: usize = 0;
let dFinalAt: usize = 0;
let gQueryAt: usize = 0;
let gKeyAt: usize = 0;
let gValueAt: usize = 0;
let gDecayAt: usize = 0;
let gBetaAt: usize = 0;
let gInitialAt: usize = 0;
// where the call is
let keptEntry: i32 = 0; // the batch entry, as what is kept counts them
let firstHead: i32 = 0; // of those that take turns
let turnHeads: i32 = 0; // how many take turns
let segmentStart: i32 = 0; // first token of the segment
let segmentEnd: i32 = 0;

/** Bytes of scratch that linearBackward needs; `withKept`: for a call that is not given what the forward keeps. */
export function linearBackwardBytes(heads: i32, group: i32, dk: i32, dv: i32, delta: bool, length: i32, withKept: bool): i32 {
  const bytes = <i32>layoutBackward(0, heads, group, dk, dv);
  if (!withKept) return bytes;
  return ((linearKeptBytes(1, heads, dk, dv, length, delta) + 63) & ~63) + max(bytes, linearForwardBytes(heads, dk, dv));
}

/**
 * Gradients of linearForward; arguments as there, with the upstream gradients of output and final state; gradient pointers may be 0 where the input is absent.
 * `kept`: what the forward left, or 0: then it is computed first.
 */
export function linearBackward(
  batch: i32, length: i32, heads: i32, group: i32, dk: i32, dv: i32, mode: i32, scale: f32,
  query: usize, key: usize, value: usize, decay: usize, beta: usize, initial: usize, dOutput: usize, dFinal: usize,
  gQuery: usize, gKey: usize, gValue: usize, gDecay: usize, gBeta: usize, gInitial: usize, kept: usize, scratch: usize,
): void {
  queryAt = query;
  keyAt = key;
  valueAt = value;
  decayAt = decay;
  betaAt = beta;
  initialAt = initial;
  dOutputAt = dOutput;
  dFinalAt = dFinal;
  gQueryAt = gQuery;
  gKeyAt = gKey;
  gValueAt = gValue;
  gDecayAt = gDecay;
  gBetaAt = gBeta;
  gInitialAt = gInitial;
  const keeping = kept != 0;
  if (!keeping) {
    kept = scratch;
    scratch += (linearKeptBytes(1, heads, dk, dv, length, beta != 0) + 63) & ~63;
  }
  for (let b = 0; b < batch; b++) {
    keptEntry = keeping ? b : 0;
    beginCall(length, heads, group, dk, dv, mode, scale);
    offsetsOf(b, 0);
    if (!keeping && (beta || length > SEGMENT)) {
      const from = initial ? initial + stateOffset() : 0;
      const strengths = beta ? beta + betaOffset(0) : 0;
      linearForward(
        1, length, heads, 0, dk, dv, mode, scale, 0, key + keyOffset(0), value + valueOffset(0), decay + decayOffset(0), strengths, from, 0, 0, kept, scratch,
      );
      beginCall(length, heads, group, dk, dv, mode, scale);
      offsetsOf(b, 0);
    }
    layoutBackward(scratch, heads, group, dk, dv);
    useKept(kept, keeping ? batch : 1, heads, length, beta != 0);
    memory.fill(columns, 0, <usize>keyPadded << 5);
    for (firstHead = 0; firstHead < heads; firstHead += headsAtATime) {
      turnHeads = min(headsAtATime, heads - firstHead);
      for (let i = 0; i < turnHeads; i++) {
        takeTurn(i);
        copyScaled(dk, dv, dFinal + stateOffset(), valueStep, 1, dState, valueStride);
        fillRow(nextDecay, 1);
      }
      for (let s = (length - 1) / SEGMENT; s >= 0; s--) {
        segmentStart = s * SEGMENT;
        segmentEnd = min(length, segmentStart + SEGMENT);
        segmentBack();
        for (let i = 0; i < turnHeads; i++) {
          takeTurn(i);
          turnAround(s);
        }
        segmentOn();
        for (let i = 0; mode && i < turnHeads; i++) {
          takeTurn(i);
          segmentDecays();
        }
      }
    }
  }
}

/** Makes it the turn of head `i` of those that take turns. */
function takeTurn(i: i32): void {
  offsetsOf(entry, firstHead + i);
  useHead(i);
}

/** The segment from its end to its start, all heads in turns. */
function segmentBack(): void {
  for (let i = 0; i < turnHeads; i++) {
    takeTurn(i);
    findChunks();
    endSegment(segmentEnd - segmentStart);
  }
  const lastTurn = segmentStart + ((segmentEnd - 1 - segmentStart) / TURN) * TURN;
  for (let turn = lastTurn; turn >= segmentStart; turn -= TURN) {
    const many = min(TURN, segmentEnd - turn);
    takeTurn(0);
    touchRows(many, keyAt + keyOffset(turn), keyToken, keyStep * turnHeads);
    touchRows(many, queryAt + queryOffset(turn), queryToken, keyStep * turnHeads * groupSize);
    touchRows(many, dOutputAt + outOffset(turn), outToken, valueStep * turnHeads * groupSize);
    touchRows(many, gValueAt + valueOffset(turn), valueToken, valueStep * turnHeads);
    if (!betaAt) touchRows(many, valueAt + valueOffset(turn), valueToken, valueStep * turnHeads);
    for (let i = 0; i < turnHeads; i++) {
      takeTurn(i);
      let n = load<i32>(chunks);
      while (n > 0 && load<i32>(starts + (<usize>(n - 1) << 2)) >= turn) chunkBack(--n);
      store<i32>(chunks, n);
    }
  }
}

/** Finds the chunks of the segment, as the forward cut them, with their decays. */
function findChunks(): void {
  let n = 0;
  let t = segmentStart;
  while (t < segmentEnd) {
    const longest = min(TURN - (t - segmentStart) % TURN, segmentEnd - t);
    store<i32>(starts + (<usize>n << 2), t);
    chunkFrom(t - segmentStart);
    fillRow(pending, 1);
    t += chunkDecays(decayMode, decayAt + decayOffset(t), decayToken, longest);
    memory.copy(firstDecays + <usize>n * keyStride, pending, keyStride);
    n++;
  }
  store<i32>(starts + (<usize>n << 2), segmentEnd);
  store<i32>(chunks, n);
}

/** Chunk n with the gradient of the state, from the chunk's end to its start: gradients of V, beta and K^. */
function chunkBack(n: i32): void {
  const start = load<i32>(starts + (<usize>n << 2));
  const count = load<i32>(starts + (<usize>(n + 1) << 2)) - start;
  chunkFrom(start - segmentStart);
  if (decayMode) {
    recallDecays(decayMode, count);
    scaleByColumn(1, nextDecay, lastDecays, keyStride);
    scaleByRow(keyDim, dState, nextDecay, dState, valueStride);
    memory.copy(nextDecay, firstDecays + <usize>n * keyStride, keyStride);
  }
  prepareKeys(decayMode, betaAt != 0, count, keyAt + keyOffset(start), keyToken);
  if (betaAt) readBetas(count, betaAt + betaOffset(start), betaToken);
  for (let i = ((count - 1) / PIECE) * PIECE; i >= 0; i -= PIECE) pieceBack(i, min(PIECE, count - i), start + i);
  writeRows(count, valueDim, dUpdates + <usize>(start - segmentStart) * valueStride, valueStride, gValueAt + valueOffset(start), valueToken);
}

/** The piece from token i of its chunk, token t of the sequence. */
function pieceBack(i: i32, rows: i32, t: i32): void {
  const place = <usize>(t - segmentStart);
  const keys = <usize>i * keyStride;
  const panel = <usize>keyDim << 5;
  const dUpdate = dUpdates + place * valueStride;
  for (let g = 0; g < groupSize; g++) {
    const before = rowsBefore + <usize>(g * rows) * keyStride;
    const out = dOuts + <usize>(g * PIECE) * valueStride;
    const square = mixing + (<usize>(g * PIECE) << 2);
    useQueries(before);
    prepareQueries(decayMode, i, rows, queryAt + queryOffset(t) + keyStep * g, queryToken, outputScale);
    packTransposed(keyDim, rows, before, keyStride, beforePanels + panel * g);
    copyScaled(rows, valueDim, dOutputAt + outOffset(t) + valueStep * g, outToken, 1, out, valueStride);
    if (rows < PIECE) memory.fill(out + <usize>rows * valueStride, 0, valueStride * (PIECE - rows));
    // P transposed: nothing below the diagonal
    strip(keyDim, keyHat + keys, keyStride, beforePanels + panel * g, 32, 0, square, mixingStride, 0, 8, rows, 1, false);
    for (let r = 1; r < rows; r++) memory.fill(square + <usize>r * mixingStride, 0, <usize>r << 2);
  }
  pairStrip(
    keyDim, keyHat + keys, keyStride, dState, valueStride, groupSize * PIECE, mixing, mixingStride, dOuts, valueStride, betaAt ? dPiece : dUpdate, valueStride,
    valuePadded, rows, 1,
  );
  packUpdate(i, rows, t);
  if (betaAt) {
    const before = rowsBefore + <usize>(groupSize * rows) * keyStride;
    useSquare(keptSquare(keptEntry, head, t));
    solveBackward(rows, dPiece, keptUpdate(keptEntry, head, t), betas + (<usize>i << 2), dUpdate);
    writeBetaGradient(rows, gBetaAt + betaOffset(t), betaToken);
    copyScaled(rows, keyDim, keyTilde + keys, keyStride, -1, before, keyStride);
    packTransposed(keyDim, rows, before, keyStride, beforePanels + panel * groupSize);
  }
  // gradients of P of each query head, and of -N
  const parts = groupSize + (betaAt ? 1 : 0);
  const block = blocks + place * blockBytes;
  for (let g = 0; g < parts; g++) {
    const square = block + <usize>(g * rows) * PIECE_STRIDE;
    lowerPiece(valueDim, partRows(g, dUpdate), valueStride, updatePanel, square, rows, g == groupSize);
  }
  const dKeyHat = dKeyHats + place * keyStride;
  rowsTimes(keyDim, 8, valueDim, dState, valueStride, updatePanel, 32, 0, columns, 32, 1, false);
  transposePiece(rows, keyPadded, columns, dKeyHat, keyStride);
  stripColumns(rows * parts, block, PIECE_STRIDE, rowsBefore, keyStride, 32, dKeyHat, keyStride, 32, keyPadded, rows, 1, true);
  for (let g = 0; g < parts; g++) addPiece(keyDim, valuePadded, beforePanels + panel * g, partRows(g, dUpdate), valueStride, dState, valueStride);
}

/** Rows that part `g` of a piece adds to dState: dO of a query head, or after the last one dR. */
function partRows(g: i32, dUpdate: usize): usize {
  return g < groupSize ? dOuts + <usize>(g * PIECE) * valueStride : dUpdate;
}

/** U of a piece, transposed. */
function packUpdate(i: i32, rows: i32, t: i32): void {
  if (!betaAt) return packTransposed(valueDim, rows, valueAt + valueOffset(t), valueToken, updatePanel);
  scaleByRow(rows, keptUpdate(keptEntry, head, t), betas + (<usize>i << 2), update, valueStride);
  packTransposed(valueDim, rows, update, valueStride, updatePanel);
}

/** The state before segment `s`, and what it says together with its gradient. */
function turnAround(s: i32): void {
  fillRow(pending, 1);
  if (s > 0) loadTransposed(keptState(keptEntry, head, s), valueStride, state);
  else loadTransposed(initialAt ? initialAt + stateOffset() : 0, valueStep, state);
  if (decayMode) {
    loadTransposed(dState, valueStride, turned);
    sumProducts(valueDim, state, turned, keyStride, startAlong);
    scaleByColumn(1, startAlong, firstDecays, keyStride);
  }
  if (s > 0 || !gInitialAt) return;
  if (decayMode) scaleByRow(keyDim, dState, nextDecay, dState, valueStride);
  writeRows(keyDim, valueDim, dState, valueStride, gInitialAt + stateOffset(), valueStep);
}

/** A state transposed from one of [keyDim, valueDim], rows `stride` bytes apart; 0 means zeros. */
function loadTransposed(from: usize, stride: usize, to: usize): void {
  if (!from || keyDim < keyPadded) memory.fill(to, 0, transposedBytes);
  if (from) transposeMatrix(keyDim, valueDim, from, stride, to, keyStride);
}

/** The segment from its start to its end, all heads in turns. */
function segmentOn(): void {
  for (let turn = segmentStart; turn < segmentEnd; turn += TURN) {
    const end = min(segmentEnd, turn + TURN);
    takeTurn(0);
    touchRows(end - turn, gKeyAt + keyOffset(turn), keyToken, keyStep * turnHeads);
    touchRows(end - turn, gQueryAt + queryOffset(turn), queryToken, keyStep * turnHeads * groupSize);
    for (let i = 0; i < turnHeads; i++) {
      takeTurn(i);
      let n = load<i32>(chunks);
      while (load<i32>(starts + (<usize>n << 2)) < end) chunkOn(n++);
      store<i32>(chunks, n);
    }
  }
}

/** Chunk n with the state, from the chunk's start to its end: gradients of queries and keys, and what each says of the decays. */
function chunkOn(n: i32): void {
  const start = load<i32>(starts + (<usize>n << 2));
  const count = load<i32>(starts + (<usize>(n + 1) << 2)) - start;
  chunkFrom(start - segmentStart);
  if (decayMode) {
    recallDecays(decayMode, count);
    scaleByColumn(1, pending, firstDecays + <usize>n * keyStride, keyStride);
    applyPendingTransposed(decayMode, count, state);
  }
  if (betaAt) readBetas(count, betaAt + betaOffset(start), betaToken);
  for (let i = 0; i < count; i += PIECE) pieceOn(i, min(PIECE, count - i), start + i);
}

/** The piece from token i of its chunk, token t of the sequence. */
function pieceOn(i: i32, rows: i32, t: i32): void {
  const place = <usize>(t - segmentStart);
  const hat = keyHat + <usize>i * keyStride;
  const log = dLogs + place * (decayMode == 2 ? keyStride : 4);
  let square = blocks + place * blockBytes;
  packUpdate(i, rows, t);
  for (let g = 0; g < groupSize; g++) {
    const offset = queryOffset(t) + keyStep * g;
    const dOut = dOutputAt + outOffset(t) + valueStep * g;
    pairStrip(valueDim, dOut, outToken, state, keyStride, rows, square, PIECE_STRIDE, hat, keyStride, dQuery, keyStride, keyPadded, rows, 1);
    writeQueryGradient(decayMode, g == 0, i, rows, outputScale, log, queryAt + offset, gQueryAt + offset, queryToken);
    square += <usize>rows * PIECE_STRIDE;
  }
  if (betaAt) {
    const dUpdate = dUpdates + place * valueStride;
    pairStrip(valueDim, dUpdate, valueStride, state, keyStride, rows, square, PIECE_STRIDE, hat, keyStride, dKeyTilde, keyStride, keyPadded, rows, -1);
  }
  writeKeyGradient(decayMode, betaAt != 0, i, rows, dKeyHats + place * keyStride, log, keyAt + keyOffset(t), gKeyAt + keyOffset(t), keyToken);
  addPiece(valueDim, keyPadded, updatePanel, hat, keyStride, state, keyStride);
}

/** Gradients of the segment's decays. */
function segmentDecays(): void {
  if (segmentEnd == tokens) {
    applyPendingTransposed(decayMode, 0, state);
    loadTransposed(dFinalAt + stateOffset(), valueStep, turned);
    sumProducts(valueDim, state, turned, keyStride, endAlong);
  }
  const offset = decayOffset(segmentStart);
  writeDecayGradient(decayMode, segmentEnd - segmentStart, dLogs, endAlong, startAlong, decayAt + offset, gDecayAt + offset, decayToken);
  memory.copy(endAlong, startAlong, keyStride);
}
