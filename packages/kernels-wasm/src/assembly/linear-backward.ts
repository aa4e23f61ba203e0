import { packTransposed } from './gemm';
import { transposeMatrix } from './copy';
import {
  CHUNK, SQUARE_STRIDE, applyPendingTransposed, betas, chunkDecays, clearUpper, fillRow, keyDim, keyHat, keyHatPanels, keyPadded, keyStride, keyTilde,
  lastDecays, pSquare, packKeyHat, pending, prepareKeys, prepareQueries, queryTilde, readBetas, stateBytes, transposedBytes, useSquare, valueDim, valuePadded, valueStride,
} from './linear-chunk';
import { linearForward, linearForwardBytes } from './linear-forward';
import { SEGMENT, keptSquare, keptState, keptUpdate, linearKeptBytes, useKept } from './linear-kept';
import { touch } from './memory';
import { copyScaled, scaleByColumn, scaleByRow, sumProducts, transposeRows, writeRows } from './linear-rows';
import { addColumnsTimesRows, addUpperTimesRows, lowerProduct, rowsAndLowerTimes, rowsTimes } from './linear-tile';
import {
  COLUMN_STRIDE, along, chunkStates, columns, dKeyHat, dKeyTilde, dOut, dQuery, dSquare, dState, firstDecay, heads, layoutBackward, nextAlong, nextDecay, place, starts,
  update, updatePanels, useHead,
} from './linear-backward-scratch';
import { solveBackward, writeBetaGradient, writeDecayGradient, writeKeyGradient, writeQueryGradient } from './linear-backward-products';

// gradient of linear attention, segment by segment from the last: the forward kept the state before each, those before its chunks are computed again,
// then the chunks are walked backwards

/** tokens that a group of heads goes through before any goes on, as in the forward */
const TURN: i32 = CHUNK;

// arguments of the call, for the functions that go through a head
let batchRow: usize = 0; // first row of the batch entry, in tokens
let keptEntry: i32 = 0; // the batch entry, as what is kept counts them
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
export function linearBackwardBytes(allHeads: i32, dk: i32, dv: i32, mode: i32, delta: bool, length: i32, withKept: bool): i32 {
  const bytes = <i32>layoutBackward(0, allHeads, dk, dv, mode);
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
    layoutBackward(scratch, allHeads, dk, dv, mode);
    useKept(kept, keeping ? batch : 1, allHeads, length, delta);
    memory.fill(columns, 0, COLUMN_STRIDE * valuePadded);
    for (let from = 0; from < allHeads; from += heads) {
      const count = min(heads, allHeads - from);
      for (let i = 0; i < count; i++) {
        useHead(i);
        loadTransposed(dFinal + <usize>(b * allHeads + from + i) * stateSize, <usize>dv << 2, dState);
        fillRow(nextDecay, 1);
      }
      for (let s = (length - 1) / SEGMENT; s >= 0; s--) {
        const begin = s * SEGMENT;
        const end = min(length, begin + SEGMENT);
        for (let i = 0; i < count; i++) {
          useHead(i);
          fillRow(pending, 1);
          if (s > 0) loadTransposed(keptState(keptEntry, from + i, s), valueStride, chunkStates);
          else loadTransposed(headStates ? headStates + <usize>(from + i) * stateSize : 0, <usize>dv << 2, chunkStates);
          store<i32>(place, 0);
        }
        for (let turn = begin; turn < end; turn += TURN) {
          const first = batchRow + turn;
          const many = <usize>min(TURN, end - turn);
          touch(key + first * keyToken, many * keyToken);
          if (!delta) touch(value + first * valueToken, many * valueToken);
          if (mode) touch(decay + first * decayToken, many * decayToken);
          for (let i = 0; i < count; i++) {
            const h = <usize>(from + i);
            useHead(i);
            head = from + i;
            forwardTurn(turn, min(end, turn + TURN), end == length || turn + TURN < end, key + h * keyStep, value + h * valueStep, decay + h * decayStep, delta ? beta + (h << 2) : 0);
          }
        }
        if (end == length && mode) {
          for (let i = 0; i < count; i++) {
            useHead(i);
            const after = chunkStates + <usize>load<i32>(place) * transposedBytes;
            applyPendingTransposed(mode, 0, after);
            sumProducts(valueDim, after, dState, keyStride, nextAlong);
          }
        }
        for (let turn = begin + ((end - 1 - begin) / TURN) * TURN; turn >= begin; turn -= TURN) {
          const first = batchRow + turn;
          const many = <usize>min(TURN, end - turn);
          touch(query + first * queryToken, many * queryToken);
          touch(dOutput + first * outToken, many * outToken);
          touch(gKey + first * keyToken, many * keyToken);
          touch(gQuery + first * queryToken, many * queryToken);
          touch(gValue + first * valueToken, many * valueToken);
          if (mode) touch(gDecay + first * decayToken, many * decayToken);
          for (let i = 0; i < count; i++) {
            const h = <usize>(from + i);
            useHead(i);
            head = from + i;
            let n = load<i32>(place);
            while (n > 0 && load<i32>(starts + (<usize>(n - 1) << 2)) >= turn) {
              n--;
              backwardChunk(
                n, query + h * keyStep * group, key + h * keyStep, value + h * valueStep, decay + h * decayStep, delta ? beta + (h << 2) : 0,
                dOutput + h * valueStep * group, gQuery + h * keyStep * group, gKey + h * keyStep, gValue + h * valueStep, gDecay + h * decayStep, gBeta + (h << 2),
              );
            }
            store<i32>(place, n);
          }
        }
      }
      if (gInitial) {
        for (let i = 0; i < count; i++) {
          useHead(i);
          if (mode) scaleByColumn(dv, dState, nextDecay, keyStride);
          transposeMatrix(dv, dk, dState, keyStride, gInitial + <usize>(b * allHeads + from + i) * stateSize, <usize>dv << 2);
        }
      }
    }
  }
}

/** States before the chunks of one head from token t up to `end`, and the one after the last where `last` says so. */
function forwardTurn(t: i32, end: i32, last: bool, key: usize, value: usize, decay: usize, beta: usize): void {
  let chunk = load<i32>(place);
  while (t < end) {
    const row = batchRow + t;
    const state = chunkStates + <usize>chunk * transposedBytes;
    const count = chunkDecays(decayMode, decay + row * decayToken, decayToken, min(CHUNK, end - t));
    store<i32>(starts + (<usize>chunk << 2), t);
    applyPendingTransposed(decayMode, count, state);
    if (last || t + count < end) {
      prepareKeys(decayMode, false, count, key + row * keyToken, keyToken);
      if (beta) {
        readBetas(count, beta + row * betaToken, betaToken);
        scaleByRow(count, keptUpdate(keptEntry, head, t), betas, update, valueStride);
      } else {
        copyScaled(count, valueDim, value + row * valueToken, valueToken, 1, update, valueStride);
      }
      memory.copy(state + transposedBytes, state, transposedBytes);
      addColumnsTimesRows(valueDim, keyPadded, count, update, valueStride, keyHat, keyStride, state + transposedBytes, keyStride, 1);
    }
    t += count;
    chunk++;
  }
  store<i32>(starts + (<usize>chunk << 2), end);
  store<i32>(place, chunk);
}

/** A state transposed from one of [keyDim, valueDim], rows `stride` bytes apart; 0 means zeros. */
function loadTransposed(from: usize, stride: usize, to: usize): void {
  if (!from || keyDim < keyPadded) memory.fill(to, 0, transposedBytes);
  if (from) transposeMatrix(keyDim, valueDim, from, stride, to, keyStride);
}

/** Gradients of chunk n of one head; dState moves from the chunk's end to its start. */
function backwardChunk(
  n: i32, query: usize, key: usize, value: usize, decay: usize, beta: usize, dOutput: usize,
  gQuery: usize, gKey: usize, gValue: usize, gDecay: usize, gBeta: usize,
): void {
  const mode = decayMode;
  const delta = beta != 0;
  const s0 = chunkStates + <usize>n * transposedBytes;
  const start = load<i32>(starts + (<usize>n << 2));
  const raw = keptUpdate(keptEntry, head, start);
  const count = load<i32>(starts + (<usize>(n + 1) << 2)) - start;
  const row = batchRow + start;
  // right below dO, so that both go into the state's gradient as one product
  const dUpdate = dOut + <usize>count * valueStride;
  const below = queryTilde + <usize>count * keyStride;
  if (mode) {
    fillRow(pending, 1);
    chunkDecays(mode, decay + row * decayToken, decayToken, count);
    memory.copy(firstDecay, pending, keyStride);
    scaleByColumn(1, nextDecay, lastDecays, keyStride);
    scaleByColumn(valueDim, dState, nextDecay, keyStride);
  }
  prepareKeys(mode, delta, count, key + row * keyToken, keyToken);
  packKeyHat(count);
  if (delta) {
    readBetas(count, beta + row * betaToken, betaToken);
    scaleByRow(count, raw, betas, update, valueStride);
  } else {
    copyScaled(count, valueDim, value + row * valueToken, valueToken, 1, update, valueStride);
  }
  packTransposed(valueDim, count, update, valueStride, updatePanels);
  // what the state after the chunk says
  columnsOf(dState, keyHatPanels, count, 1);
  transposeRows(count, valuePadded, columns, COLUMN_STRIDE, dUpdate, valueStride, false);
  rowsTimes(count, keyPadded, valueDim, update, valueStride, dState, keyStride, 32, dKeyHat, keyStride, 1, false);
  for (let g = 0; g < groupSize; g++) {
    const queryOffset = row * queryToken + ((<usize>(g * keyDim)) << 2);
    prepareQueries(mode, 0, count, query + queryOffset, queryToken, outputScale);
    copyScaled(count, valueDim, dOutput + row * outToken + ((<usize>(g * valueDim)) << 2), outToken, 1, dOut, valueStride);
    lowerProduct(count, keyDim, queryTilde, keyStride, keyHatPanels, pSquare, SQUARE_STRIDE, 1);
    clearUpper(count, pSquare, SQUARE_STRIDE, false);
    addUpperTimesRows(count, valuePadded, pSquare, SQUARE_STRIDE, dOut, valueStride, dUpdate, valueStride);
    lowerProduct(count, valueDim, dOut, valueStride, updatePanels, dSquare, SQUARE_STRIDE, 1);
    clearUpper(count, dSquare, SQUARE_STRIDE, false);
    rowsAndLowerTimes(count, keyPadded, valueDim, dOut, valueStride, s0, keyStride, dSquare, SQUARE_STRIDE, keyHat, keyStride, dQuery, keyStride, 1);
    addUpperTimesRows(count, keyPadded, dSquare, SQUARE_STRIDE, queryTilde, keyStride, dKeyHat, keyStride);
    if (!delta || g + 1 < groupSize) addColumnsTimesRows(valueDim, keyPadded, count, dOut, valueStride, queryTilde, keyStride, dState, keyStride, 1);
    writeQueryGradient(mode, g == 0, count, outputScale, gQuery + queryOffset, queryToken);
  }
  if (delta) {
    useSquare(keptSquare(keptEntry, head, start));
    solveBackward(count, dUpdate, raw);
    writeBetaGradient(count, gBeta + row * betaToken, betaToken);
    lowerProduct(count, valueDim, dUpdate, valueStride, updatePanels, dSquare, SQUARE_STRIDE, 1);
    clearUpper(count, dSquare, SQUARE_STRIDE, true);
    rowsAndLowerTimes(count, keyPadded, valueDim, dUpdate, valueStride, s0, keyStride, dSquare, SQUARE_STRIDE, keyHat, keyStride, dKeyTilde, keyStride, -1);
    copyScaled(count, keyDim, keyTilde, keyStride, -1, below, keyStride);
    addUpperTimesRows(count, keyPadded, dSquare, SQUARE_STRIDE, below, keyStride, dKeyHat, keyStride);
    addColumnsTimesRows(valueDim, keyPadded, count * 2, dOut, valueStride, queryTilde, keyStride, dState, keyStride, 1);
  }
  writeRows(count, valueDim, dUpdate, valueStride, gValue + row * valueToken, valueToken);
  writeKeyGradient(mode, delta, count, gKey + row * keyToken, keyToken);
  if (mode) {
    sumProducts(valueDim, s0, dState, keyStride, along);
    writeDecayGradient(mode, count, gDecay + row * decayToken, decayToken);
    memory.copy(nextAlong, along, keyStride);
    memory.copy(nextDecay, firstDecay, keyStride);
  }
}

/** columns[v, i] = alpha * sum over d of state[v, d] rows[i, d], for rows that lie packed and transposed. */
function columnsOf(transposed: usize, panels: usize, count: i32, alpha: f32): void {
  rowsTimes(valueDim, (count + 7) & ~7, keyDim, transposed, keyStride, panels, 32, <usize>keyDim << 5, columns, COLUMN_STRIDE, alpha, false);
}
