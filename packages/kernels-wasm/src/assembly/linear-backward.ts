import { packTransposed } from './gemm';
import { transposeMatrix } from './copy';
import {
  CHUNK, applyPendingTransposed, betas, chunkDecays, fillRow, keyDim, keyHat, keyPadded, keyStride, keyTilde, lastDecays, pending, prepareKeys, prepareQueries,
  readBetas, recallDecays, transposedBytes, useQueries, useSquare, valueDim, valuePadded, valueStride,
} from './linear-chunk';
import {
  beforePanels, blockBytes, blocks, chunkFrom, chunks, columns, dKeyHats, dKeyTilde, dLogs, dOuts, dPiece, dQuery, dState, dUpdates, endAlong, endSegment,
  firstDecays, heads, layoutBackward, mixing, mixingStride, nextDecay, rowsBefore, startAlong, starts, state, turned, update, updatePanel, useHead,
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
let batchRow: usize = 0; // first row of the batch entry, in tokens
let keptEntry: i32 = 0; // the batch entry, as what is kept counts them
let segmentStart: i32 = 0; // first token of the segment
let head: i32 = 0; // the head whose turn it is
let groupSize: i32 = 0;
let decayMode: i32 = 0;
let outputScale: f32 = 0;
let keyToken: usize = 0;
let valueToken: usize = 0;
let queryToken: usize = 0;
let outToken: usize = 0;
let decayToken: usize = 0;
let betaToken: usize = 0;

/** Bytes of scratch that linearBackward needs; `withKept`: for a call that is not given what the forward keeps. */
export function linearBackwardBytes(allHeads: i32, group: i32, dk: i32, dv: i32, delta: bool, length: i32, withKept: bool): i32 {
  const bytes = <i32>layoutBackward(0, allHeads, group, dk, dv);
  if (!withKept) return bytes;
  return ((linearKeptBytes(1, allHeads, dk, dv, length, delta) + 63) & ~63) + max(bytes, linearForwardBytes(allHeads, dk, dv));
}

/**
 * Gradients of linearForward; arguments as there, with the upstream gradients of output and final state; gradient pointers may be 0 where the input is absent.
 * `kept`: what the forward left, or 0: then it is computed first.
 */
export function linearBackward(
  batch: i32, length: i32, allHeads: i32, group: i32, dk: i32, dv: i32, mode: i32, scale: f32,
  query: usize, key: usize, value: usize, decay: usize, beta: usize, initial: usize, dOutput: usize, dFinal: usize,
  gQuery: usize, gKey: usize, gValue: usize, gDecay: usize, gBeta: usize, gInitial: usize, kept: usize, scratch: usize,
): void {
  const keeping = kept != 0;
  const delta = beta != 0;
  if (!keeping) {
    kept = scratch;
    scratch += (linearKeptBytes(1, allHeads, dk, dv, length, delta) + 63) & ~63;
  }
  groupSize = group;
  decayMode = mode;
  outputScale = scale;
  const decayDim = mode == 2 ? dk : 1;
  keyToken = <usize>(allHeads * dk) << 2;
  valueToken = <usize>(allHeads * dv) << 2;
  queryToken = keyToken * group;
  outToken = valueToken * group;
  decayToken = <usize>(allHeads * decayDim) << 2;
  betaToken = <usize>allHeads << 2;
  const keyStep = <usize>dk << 2;
  const valueStep = <usize>dv << 2;
  const decayStep = <usize>decayDim << 2;
  const stateSize = <usize>(dk * dv) << 2;
  for (let b = 0; b < batch; b++) {
    batchRow = <usize>(b * length);
    keptEntry = keeping ? b : 0;
    const headStates = initial ? initial + <usize>(b * allHeads) * stateSize : 0;
    if (!keeping && (delta || length > SEGMENT)) {
      linearForward(
        1, length, allHeads, 0, dk, dv, mode, scale, 0, key + batchRow * keyToken, value + batchRow * valueToken, decay + batchRow * decayToken,
        delta ? beta + batchRow * betaToken : 0, headStates, 0, 0, kept, scratch,
      );
    }
    layoutBackward(scratch, allHeads, group, dk, dv);
    useKept(kept, keeping ? batch : 1, allHeads, length, delta);
    memory.fill(columns, 0, <usize>keyPadded << 5);
    for (let from = 0; from < allHeads; from += heads) {
      const count = min(heads, allHeads - from);
      for (let i = 0; i < count; i++) {
        useHead(i);
        copyScaled(dk, dv, dFinal + <usize>(b * allHeads + from + i) * stateSize, valueStep, 1, dState, valueStride);
        fillRow(nextDecay, 1);
      }
      for (let s = (length - 1) / SEGMENT; s >= 0; s--) {
        segmentStart = s * SEGMENT;
        const end = min(length, segmentStart + SEGMENT);
        for (let i = 0; i < count; i++) {
          useHead(i);
          findChunks(end, decay + <usize>(from + i) * decayStep);
          endSegment(end - segmentStart);
        }
        for (let turn = segmentStart + ((end - 1 - segmentStart) / TURN) * TURN; turn >= segmentStart; turn -= TURN) {
          const first = batchRow + turn;
          const many = min(TURN, end - turn);
          touchRows(many, key + first * keyToken + <usize>from * keyStep, keyToken, <usize>count * keyStep);
          touchRows(many, query + first * queryToken + <usize>from * keyStep * group, queryToken, <usize>count * keyStep * group);
          touchRows(many, dOutput + first * outToken + <usize>from * valueStep * group, outToken, <usize>count * valueStep * group);
          touchRows(many, gValue + first * valueToken + <usize>from * valueStep, valueToken, <usize>count * valueStep);
          if (!delta) touchRows(many, value + first * valueToken + <usize>from * valueStep, valueToken, <usize>count * valueStep);
          for (let i = 0; i < count; i++) {
            const h = <usize>(from + i);
            useHead(i);
            head = from + i;
            let n = load<i32>(chunks);
            while (n > 0 && load<i32>(starts + (<usize>(n - 1) << 2)) >= turn) {
              n--;
              walkBack(
                n, query + h * keyStep * group, key + h * keyStep, value + h * valueStep, delta ? beta + (h << 2) : 0, dOutput + h * valueStep * group,
                gValue + h * valueStep, gBeta + (h << 2),
              );
            }
            store<i32>(chunks, n);
          }
        }
        for (let i = 0; i < count; i++) {
          const entry = <usize>(b * allHeads + from + i);
          useHead(i);
          fillRow(pending, 1);
          if (s > 0) loadTransposed(keptState(keptEntry, from + i, s), valueStride, state);
          else loadTransposed(headStates ? headStates + <usize>(from + i) * stateSize : 0, valueStep, state);
          if (mode) {
            loadTransposed(dState, valueStride, turned);
            sumProducts(dv, state, turned, keyStride, startAlong);
            scaleByColumn(1, startAlong, firstDecays, keyStride);
          }
          if (s == 0 && gInitial) {
            if (mode) scaleByRow(dk, dState, nextDecay, dState, valueStride);
            writeRows(dk, dv, dState, valueStride, gInitial + entry * stateSize, valueStep);
          }
        }
        for (let turn = segmentStart; turn < end; turn += TURN) {
          const first = batchRow + turn;
          const many = min(TURN, end - turn);
          touchRows(many, gKey + first * keyToken + <usize>from * keyStep, keyToken, <usize>count * keyStep);
          touchRows(many, gQuery + first * queryToken + <usize>from * keyStep * group, queryToken, <usize>count * keyStep * group);
          for (let i = 0; i < count; i++) {
            const h = <usize>(from + i);
            useHead(i);
            head = from + i;
            let n = load<i32>(chunks);
            while (load<i32>(starts + (<usize>n << 2)) < min(end, turn + TURN)) {
              walkOn(
                n, query + h * keyStep * group, key + h * keyStep, value + h * valueStep, delta ? beta + (h << 2) : 0, dOutput + h * valueStep * group,
                gQuery + h * keyStep * group, gKey + h * keyStep,
              );
              n++;
            }
            store<i32>(chunks, n);
          }
        }
        for (let i = 0; mode && i < count; i++) {
          const entry = <usize>(b * allHeads + from + i);
          useHead(i);
          if (end == length) {
            applyPendingTransposed(mode, 0, state);
            loadTransposed(dFinal + entry * stateSize, valueStep, turned);
            sumProducts(dv, state, turned, keyStride, endAlong);
          }
          const place = (batchRow + segmentStart) * decayToken + <usize>(from + i) * decayStep;
          writeDecayGradient(mode, end - segmentStart, dLogs, endAlong, startAlong, decay + place, gDecay + place, decayToken);
          memory.copy(endAlong, startAlong, keyStride);
        }
      }
    }
  }
}

/** Finds the chunks of a head's segment, as the forward cut them, with their decays. */
function findChunks(end: i32, decay: usize): void {
  let n = 0;
  let t = segmentStart;
  while (t < end) {
    const longest = min(CHUNK - (t - segmentStart) % TURN, end - t);
    store<i32>(starts + (<usize>n << 2), t);
    chunkFrom(t - segmentStart);
    fillRow(pending, 1);
    t += chunkDecays(decayMode, decay + (batchRow + t) * decayToken, decayToken, longest);
    memory.copy(firstDecays + <usize>n * keyStride, pending, keyStride);
    n++;
  }
  store<i32>(starts + (<usize>n << 2), end);
  store<i32>(chunks, n);
}

/** A state transposed from one of [keyDim, valueDim], rows `stride` bytes apart; 0 means zeros. */
function loadTransposed(from: usize, stride: usize, to: usize): void {
  if (!from || keyDim < keyPadded) memory.fill(to, 0, transposedBytes);
  if (from) transposeMatrix(keyDim, valueDim, from, stride, to, keyStride);
}

/** Chunk n of one head with the gradient of the state, from the chunk's end to its start: gradients of V, beta and K^. */
function walkBack(n: i32, query: usize, key: usize, value: usize, beta: usize, dOutput: usize, gValue: usize, gBeta: usize): void {
  const start = load<i32>(starts + (<usize>n << 2));
  const count = load<i32>(starts + (<usize>(n + 1) << 2)) - start;
  const row = batchRow + start;
  const place = start - segmentStart;
  chunkFrom(place);
  if (decayMode) {
    recallDecays(decayMode, count);
    scaleByColumn(1, nextDecay, lastDecays, keyStride);
    scaleByRow(keyDim, dState, nextDecay, dState, valueStride);
    memory.copy(nextDecay, firstDecays + <usize>n * keyStride, keyStride);
  }
  prepareKeys(decayMode, beta != 0, count, key + row * keyToken, keyToken);
  if (beta) readBetas(count, beta + row * betaToken, betaToken);
  for (let i = ((count - 1) / PIECE) * PIECE; i >= 0; i -= PIECE) {
    const at = row + i;
    pieceBack(i, min(PIECE, count - i), place + i, query + at * queryToken, value + at * valueToken, beta != 0, dOutput + at * outToken, gBeta + at * betaToken);
  }
  writeRows(count, valueDim, dUpdates + <usize>place * valueStride, valueStride, gValue + row * valueToken, valueToken);
}

/** The piece from token i of the chunk, token `place` of the segment. */
function pieceBack(i: i32, rows: i32, place: i32, query: usize, value: usize, delta: bool, dOutput: usize, gBeta: usize): void {
  const keys = <usize>i * keyStride;
  const panel = <usize>keyDim << 5;
  const depth = groupSize * PIECE;
  const dUpdate = dUpdates + <usize>place * valueStride;
  for (let g = 0; g < groupSize; g++) {
    const before = rowsBefore + <usize>(g * rows) * keyStride;
    const out = dOuts + <usize>(g * PIECE) * valueStride;
    const square = mixing + (<usize>(g * PIECE) << 2);
    useQueries(before);
    prepareQueries(decayMode, i, rows, query + (<usize>(g * keyDim) << 2), queryToken, outputScale);
    packTransposed(keyDim, rows, before, keyStride, beforePanels + panel * g);
    copyScaled(rows, valueDim, dOutput + (<usize>(g * valueDim) << 2), outToken, 1, out, valueStride);
    if (rows < PIECE) memory.fill(out + <usize>rows * valueStride, 0, valueStride * (PIECE - rows));
    // the transpose of P: columns below the diagonal of it are none
    strip(keyDim, keyHat + keys, keyStride, beforePanels + panel * g, 32, 0, square, mixingStride, 0, 8, rows, 1, false);
    for (let r = 1; r < rows; r++) memory.fill(square + <usize>r * mixingStride, 0, <usize>r << 2);
  }
  pairStrip(
    keyDim, keyHat + keys, keyStride, dState, valueStride, depth, mixing, mixingStride, dOuts, valueStride, delta ? dPiece : dUpdate, valueStride, valuePadded, rows, 1,
  );
  preparePiece(i, rows, place, value, delta);
  if (delta) {
    const before = rowsBefore + <usize>(groupSize * rows) * keyStride;
    useSquare(keptSquare(keptEntry, head, segmentStart + place));
    solveBackward(rows, dPiece, keptUpdate(keptEntry, head, segmentStart + place), betas + (<usize>i << 2), dUpdate);
    writeBetaGradient(rows, gBeta, betaToken);
    copyScaled(rows, keyDim, keyTilde + keys, keyStride, -1, before, keyStride);
    packTransposed(keyDim, rows, before, keyStride, beforePanels + panel * groupSize);
  }
  const block = blocks + <usize>place * blockBytes;
  const parts = groupSize + (delta ? 1 : 0);
  for (let g = 0; g < parts; g++) {
    const square = block + <usize>(g * rows) * PIECE_STRIDE;
    lowerPiece(valueDim, g < groupSize ? dOuts + <usize>(g * PIECE) * valueStride : dUpdate, valueStride, updatePanel, square, rows, g == groupSize);
  }
  rowsTimes(keyDim, 8, valueDim, dState, valueStride, updatePanel, 32, 0, columns, 32, 1, false);
  const dKeyHat = dKeyHats + <usize>place * keyStride;
  transposePiece(rows, keyPadded, columns, dKeyHat, keyStride);
  stripColumns(rows * parts, block, PIECE_STRIDE, rowsBefore, keyStride, 32, dKeyHat, keyStride, 32, keyPadded, rows, 1, true);
  for (let g = 0; g < parts; g++) {
    addPiece(
      keyDim, valuePadded, beforePanels + panel * g, g < groupSize ? dOuts + <usize>(g * PIECE) * valueStride : dUpdate, valueStride, dState, valueStride,
    );
  }
}

/** U of a piece, transposed. */
function preparePiece(i: i32, rows: i32, place: i32, value: usize, delta: bool): void {
  if (!delta) return packTransposed(valueDim, rows, value, valueToken, updatePanel);
  scaleByRow(rows, keptUpdate(keptEntry, head, segmentStart + place), betas + (<usize>i << 2), update, valueStride);
  packTransposed(valueDim, rows, update, valueStride, updatePanel);
}

/** Chunk n of one head with the state, from the chunk's start to its end: gradients of the queries, and of the keys and decays as far as they are known. */
function walkOn(n: i32, query: usize, key: usize, value: usize, beta: usize, dOutput: usize, gQuery: usize, gKey: usize): void {
  const start = load<i32>(starts + (<usize>n << 2));
  const count = load<i32>(starts + (<usize>(n + 1) << 2)) - start;
  const row = batchRow + start;
  const place = start - segmentStart;
  chunkFrom(place);
  if (decayMode) {
    recallDecays(decayMode, count);
    scaleByColumn(1, pending, firstDecays + <usize>n * keyStride, keyStride);
    applyPendingTransposed(decayMode, count, state);
  }
  if (beta) readBetas(count, beta + row * betaToken, betaToken);
  for (let i = 0; i < count; i += PIECE) {
    const at = row + i;
    pieceOn(
      i, min(PIECE, count - i), place + i, query + at * queryToken, key + at * keyToken, value + at * valueToken, beta != 0, dOutput + at * outToken,
      gQuery + at * queryToken, gKey + at * keyToken,
    );
  }
}

/** The piece from token i of the chunk, token `place` of the segment. */
function pieceOn(
  i: i32, rows: i32, place: i32, query: usize, key: usize, value: usize, delta: bool, dOutput: usize, gQuery: usize, gKey: usize,
): void {
  const hat = keyHat + <usize>i * keyStride;
  const block = blocks + <usize>place * blockBytes;
  const log = dLogs + <usize>place * (decayMode == 2 ? keyStride : 4);
  preparePiece(i, rows, place, value, delta);
  for (let g = 0; g < groupSize; g++) {
    const square = block + <usize>(g * rows) * PIECE_STRIDE;
    const queryHead = <usize>(g * keyDim) << 2;
    pairStrip(
      valueDim, dOutput + (<usize>(g * valueDim) << 2), outToken, state, keyStride, rows, square, PIECE_STRIDE, hat, keyStride, dQuery, keyStride, keyPadded, rows, 1,
    );
    writeQueryGradient(decayMode, g == 0, i, rows, outputScale, log, query + queryHead, gQuery + queryHead, queryToken);
  }
  if (delta) {
    const square = block + <usize>(groupSize * rows) * PIECE_STRIDE;
    const dUpdate = dUpdates + <usize>place * valueStride;
    pairStrip(valueDim, dUpdate, valueStride, state, keyStride, rows, square, PIECE_STRIDE, hat, keyStride, dKeyTilde, keyStride, keyPadded, rows, -1);
  }
  writeKeyGradient(decayMode, delta, i, rows, dKeyHats + <usize>place * keyStride, log, key, gKey, keyToken);
  addPiece(valueDim, keyPadded, updatePanel, hat, keyStride, state, keyStride);
}
