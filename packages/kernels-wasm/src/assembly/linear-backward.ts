import { packTransposed } from './gemm';
import { transposeMatrix } from './copy';
import {
  CHUNK, SQUARE_STRIDE, applyPendingTransposed, betas, chunkDecays, clearUpper, fillRow, keyDim, keyHat, keyHatPanels, keyPadded, keyStride, keyTilde,
  lastDecays, nSquare, pSquare, packKeyHat, pending, prepareKeys, prepareQueries, queryTilde, readBetas, solveUpdate, takePending, transposedBytes, useSquare, valueDim,
  valuePadded, valueStride,
} from './linear-chunk';
import { keptSquare, keptUpdate, useKept } from './linear-kept';
import { touch } from './memory';
import { copyScaled, scaleByColumn, scaleByRow, sumProducts, transposeRows, writeRows } from './linear-rows';
import { addColumnsTimesRows, addUpperTimesRows, lowerProduct, rowsAndLowerTimes, rowsTimes } from './linear-tile';
import {
  COLUMN_STRIDE, SQUARE_BYTES, along, chunkStates, columns, dKeyHat, dKeyTilde, dOut, dQuery, dSquare, dState, firstDecay, heads, keyTildePanels, layoutBackward,
  nextAlong, nextDecay, place, raws, segment, segmentStates, squares, starts, state, update, updateBytes, updatePanels, useHead,
} from './linear-backward-scratch';
import { solveBackward, writeBetaGradient, writeDecayGradient, writeKeyGradient, writeQueryGradient } from './linear-backward-products';

// gradient of linear attention: the states at the chunks' starts are computed again and kept for one segment of chunks at a time, then the chunks are walked backwards

/** tokens that a group of heads goes through before any goes on, as in the forward */
const TURN: i32 = CHUNK;

// arguments of the call, for the functions that go through a head
let batchRow: usize = 0; // first row of the batch entry, in tokens
let entry: i32 = 0; // the batch entry
let head: i32 = 0; // the head whose turn it is
let keeping: bool = false; // whether the forward left X and N
let groupSize: i32 = 0;
let decayMode: i32 = 0;
let outputScale: f32 = 0;
let keyToken: usize = 0;
let valueToken: usize = 0;
let queryToken: usize = 0;
let outToken: usize = 0;
let decayToken: usize = 0;
let betaToken: usize = 0;

/**
 * Gradients of linearForward; arguments as there, with the upstream gradients of output and final state; gradient pointers may be 0 where the input is absent.
 * `kept`: what the forward left, or 0.
 */
export function linearBackward(
  batch: i32, length: i32, allHeads: i32, group: i32, dk: i32, dv: i32, mode: i32, scale: f32,
  query: usize, key: usize, value: usize, decay: usize, beta: usize, initial: usize, dOutput: usize, dFinal: usize,
  gQuery: usize, gKey: usize, gValue: usize, gDecay: usize, gBeta: usize, gInitial: usize, kept: usize, scratch: usize,
): void {
  keeping = kept != 0;
  layoutBackward(scratch, allHeads, dk, dv, length, beta != 0 && !keeping);
  useKept(kept, batch, allHeads, length);
  memory.fill(columns, 0, COLUMN_STRIDE * valuePadded);
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
  const lastTurn = ((length - 1) / TURN) * TURN;
  for (let b = 0; b < batch; b++) {
    batchRow = <usize>(b * length);
    entry = b;
    for (let from = 0; from < allHeads; from += heads) {
      const count = min(heads, allHeads - from);
      for (let i = 0; i < count; i++) {
        useHead(i);
        fillRow(pending, 1);
        loadTransposed(initial ? initial + <usize>(b * allHeads + from + i) * stateSize : 0, state);
        store<i32>(place, 0);
      }
      for (let turn = 0; turn < length; turn += TURN) {
        const first = batchRow + turn;
        const many = <usize>min(TURN, length - turn);
        touch(key + first * keyToken, many * keyToken);
        if (!keeping) touch(value + first * valueToken, many * valueToken);
        if (mode) touch(decay + first * decayToken, many * decayToken);
        for (let i = 0; i < count; i++) {
          const h = <usize>(from + i);
          useHead(i);
          head = from + i;
          forwardTurn(turn, min(length, turn + TURN), key + h * keyStep, value + h * valueStep, decay + h * decayStep, beta ? beta + (h << 2) : 0);
        }
      }
      for (let i = 0; i < count; i++) {
        useHead(i);
        const chunks = load<i32>(place);
        store<i32>(starts + (<usize>chunks << 2), length);
        store<i32>(place, chunks - 1, 4);
        store<i32>(place, (chunks - 1) / segment, 8);
        applyPendingTransposed(mode, 0, state);
        loadTransposed(dFinal + <usize>(b * allHeads + from + i) * stateSize, dState);
        if (mode) sumProducts(valueDim, state, dState, keyStride, nextAlong);
        fillRow(nextDecay, 1);
      }
      for (let turn = lastTurn; turn >= 0; turn -= TURN) {
        const first = batchRow + turn;
        const many = <usize>min(TURN, length - turn);
        touch(key + first * keyToken, many * keyToken);
        if (!beta) touch(value + first * valueToken, many * valueToken);
        touch(query + first * queryToken, many * queryToken);
        touch(dOutput + first * outToken, many * outToken);
        if (mode) touch(decay + first * decayToken, many * decayToken);
        touch(gKey + first * keyToken, many * keyToken);
        touch(gQuery + first * queryToken, many * queryToken);
        touch(gValue + first * valueToken, many * valueToken);
        if (mode) touch(gDecay + first * decayToken, many * decayToken);
        for (let i = 0; i < count; i++) {
          const h = <usize>(from + i);
          useHead(i);
          head = from + i;
          let n = load<i32>(place, 4);
          while (n >= 0 && load<i32>(starts + (<usize>n << 2)) >= turn) {
            const headBeta = beta ? beta + (h << 2) : 0;
            keepSegment(n, key + h * keyStep, value + h * valueStep, decay + h * decayStep, headBeta);
            backwardChunk(
              n, query + h * keyStep * group, key + h * keyStep, value + h * valueStep, decay + h * decayStep, headBeta, dOutput + h * valueStep * group,
              gQuery + h * keyStep * group, gKey + h * keyStep, gValue + h * valueStep, gDecay + h * decayStep, gBeta + (h << 2),
            );
            n--;
          }
          store<i32>(place, n, 4);
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

/** States and updates of the chunks of one head from token t up to `end`. */
function forwardTurn(t: i32, end: i32, key: usize, value: usize, decay: usize, beta: usize): void {
  let chunk = load<i32>(place);
  while (t < end) {
    const row = batchRow + t;
    const count = chunkDecays(decayMode, decay + row * decayToken, decayToken, min(CHUNK, end - t));
    store<i32>(starts + (<usize>chunk << 2), t);
    applyPendingTransposed(decayMode, count, state);
    if (chunk % segment == 0) memory.copy(segmentStates + <usize>(chunk / segment) * transposedBytes, state, transposedBytes);
    forwardChunk(t, count, chunk % segment, key + row * keyToken, value + row * valueToken, beta ? beta + row * betaToken : 0);
    t += count;
    chunk++;
  }
  store<i32>(place, chunk);
}

/** Goes through the chunks of the segment of chunk n once more, when another segment's states are kept. */
function keepSegment(n: i32, key: usize, value: usize, decay: usize, beta: usize): void {
  const kept = n / segment;
  if (kept == load<i32>(place, 8)) return;
  store<i32>(place, kept, 8);
  memory.copy(state, segmentStates + <usize>kept * transposedBytes, transposedBytes);
  for (let m = kept * segment; m <= n; m++) {
    const start = load<i32>(starts + (<usize>m << 2));
    const count = load<i32>(starts + (<usize>(m + 1) << 2)) - start;
    const row = batchRow + start;
    chunkDecays(decayMode, decay + row * decayToken, decayToken, count);
    if (m == kept * segment) takePending(decayMode);
    else applyPendingTransposed(decayMode, count, state);
    forwardChunk(start, count, m % segment, key + row * keyToken, value + row * valueToken, beta ? beta + row * betaToken : 0);
  }
}

/** A state transposed from a [keyDim, valueDim] tensor; 0 means zeros. */
function loadTransposed(from: usize, to: usize): void {
  if (!from || keyDim < keyPadded) memory.fill(to, 0, transposedBytes);
  if (from) transposeMatrix(keyDim, valueDim, from, <usize>valueDim << 2, to, keyStride);
}

/** Gradients of chunk n of one head; dState moves from the chunk's end to its start. */
function backwardChunk(
  n: i32, query: usize, key: usize, value: usize, decay: usize, beta: usize, dOutput: usize,
  gQuery: usize, gKey: usize, gValue: usize, gDecay: usize, gBeta: usize,
): void {
  const mode = decayMode;
  const delta = beta != 0;
  const slot = <usize>(n % segment);
  const s0 = chunkStates + slot * transposedBytes;
  const start = load<i32>(starts + (<usize>n << 2));
  const raw = keeping ? keptUpdate(entry, head, start) : raws + slot * updateBytes;
  const count = load<i32>(starts + (<usize>(n + 1) << 2)) - start;
  const row = batchRow + start;
  // right below dO, so that both go into the state's gradient as one product
  const dUpdate = dOut + <usize>count * valueStride;
  const below = queryTilde + <usize>count * keyStride;
  // kept since the walk through the chunks began: far away by now
  touch(s0, transposedBytes);
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
    prepareQueries(mode, count, query + queryOffset, queryToken, outputScale);
    copyScaled(count, valueDim, dOutput + row * outToken + ((<usize>(g * valueDim)) << 2), outToken, 1, dOut, valueStride);
    lowerProduct(count, keyDim, queryTilde, keyStride, keyHatPanels, pSquare, SQUARE_STRIDE, 1);
    clearUpper(count, pSquare, false);
    addUpperTimesRows(count, valuePadded, pSquare, SQUARE_STRIDE, dOut, valueStride, dUpdate, valueStride);
    lowerProduct(count, valueDim, dOut, valueStride, updatePanels, dSquare, SQUARE_STRIDE, 1);
    clearUpper(count, dSquare, false);
    rowsAndLowerTimes(count, keyPadded, valueDim, dOut, valueStride, s0, keyStride, dSquare, SQUARE_STRIDE, keyHat, keyStride, dQuery, keyStride, 1);
    addUpperTimesRows(count, keyPadded, dSquare, SQUARE_STRIDE, queryTilde, keyStride, dKeyHat, keyStride);
    if (!delta || g + 1 < groupSize) addColumnsTimesRows(valueDim, keyPadded, count, dOut, valueStride, queryTilde, keyStride, dState, keyStride, 1);
    writeQueryGradient(mode, g == 0, count, outputScale, gQuery + queryOffset, queryToken);
  }
  if (delta) {
    useSquare(keeping ? keptSquare(entry, head, start) : squares + slot * SQUARE_BYTES);
    solveBackward(count, dUpdate, raw);
    writeBetaGradient(count, gBeta + row * betaToken, betaToken);
    lowerProduct(count, valueDim, dUpdate, valueStride, updatePanels, dSquare, SQUARE_STRIDE, 1);
    clearUpper(count, dSquare, true);
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

/** Keeps the state of the chunk from token t, and computes its update where the forward left none; `state` moves on to the chunk's end. */
function forwardChunk(t: i32, count: i32, slot: i32, key: usize, value: usize, beta: usize): void {
  memory.copy(chunkStates + <usize>slot * transposedBytes, state, transposedBytes);
  prepareKeys(decayMode, beta != 0 && !keeping, count, key, keyToken);
  if (beta) readBetas(count, beta, betaToken);
  if (keeping) scaleByRow(count, keptUpdate(entry, head, t), betas, update, valueStride);
  else copyScaled(count, valueDim, value, valueToken, 1, update, valueStride);
  if (beta && !keeping) {
    packKeyHat(count);
    let panels = keyHatPanels;
    if (decayMode) {
      panels = keyTildePanels;
      packTransposed(keyDim, count, keyTilde, keyStride, panels);
    }
    useSquare(squares + <usize>slot * SQUARE_BYTES);
    lowerProduct(count, keyDim, keyTilde, keyStride, keyHatPanels, nSquare, SQUARE_STRIDE, 1);
    columnsOf(state, panels, count, -1);
    transposeRows(count, valuePadded, columns, COLUMN_STRIDE, update, valueStride, true);
    solveUpdate(count, update, raws + <usize>slot * updateBytes);
  }
  addColumnsTimesRows(valueDim, keyPadded, count, update, valueStride, keyHat, keyStride, state, keyStride, 1);
}
