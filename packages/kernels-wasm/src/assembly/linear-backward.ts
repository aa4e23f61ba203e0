import { splat } from './lanes';
import { gemmPacked, gemmPackedTransposed, packRows } from './gemm';
import {
  CHUNK, ROWS_PANEL, applyPending, betas, chunkDecays, clearUpper, copyRow, eRows, keyDim, keyHat, keyStride, keyTilde, loadState, lowerProduct, nSquare,
  pSquare, panelsToRows, panelsToTensor, pending, prepareKeys, queryTilde, resetPending, rowsTimesState, scaleRows, solveUpdate, stateBytes, statePanel,
  storeState, takePending, transposePanels, valueDim, valuePanels, valuesToPanels,
} from './linear-chunk';
import { touch } from './linear-memory';
import {
  along, chunkStates, dBetas, dKeyHat, dKeyTilde, dLog, dOut, dQuery, dRows, dSquare, dState, dStateT, dUpdate, firstDecay, heads, keyHatRows, keyTildeRows,
  layoutBackward, nextAlong, nextDecay, place, queryRows, raws, segment, segmentStates, starts, state, stateT, transposedPanel, updateBytes, updateRows,
  updateT, updates, useHead,
} from './linear-backward-scratch';
import {
  addLowerTimesKeys, addUpperTimesPanels, lowerValueProduct, productRows, rowProducts, scaleState, solveBackward, writeDecayGradient, writeKeyGradient,
  writeQueryGradient,
} from './linear-backward-products';

// gradient of linear attention: the states at the chunks' starts are computed again and kept for one segment of chunks at a time, then the chunks are walked backwards

/** tokens that a group of heads goes through before any goes on, as in the forward */
const TURN: i32 = CHUNK;

// arguments of the call, for the functions that go through a head
let batchRow: usize = 0; // first row of the batch entry, in tokens
let groupSize: i32 = 0;
let decayMode: i32 = 0;
let outputScale: f32 = 0;
let keyToken: usize = 0;
let valueToken: usize = 0;
let queryToken: usize = 0;
let outToken: usize = 0;
let decayToken: usize = 0;
let betaToken: usize = 0;

/** Gradients of linearForward; arguments as there, with the upstream gradients of output and final state; gradient pointers may be 0 where the input is absent. */
export function linearBackward(
  batch: i32, length: i32, allHeads: i32, group: i32, dk: i32, dv: i32, mode: i32, scale: f32,
  query: usize, key: usize, value: usize, decay: usize, beta: usize, initial: usize, dOutput: usize, dFinal: usize,
  gQuery: usize, gKey: usize, gValue: usize, gDecay: usize, gBeta: usize, gInitial: usize, scratch: usize,
): void {
  layoutBackward(scratch, allHeads, dk, dv, length, beta != 0);
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
    for (let from = 0; from < allHeads; from += heads) {
      const count = min(heads, allHeads - from);
      for (let i = 0; i < count; i++) {
        useHead(i);
        resetPending();
        loadState(initial ? initial + <usize>(b * allHeads + from + i) * stateSize : 0, state);
        store<i32>(place, 0);
      }
      for (let turn = 0; turn < length; turn += TURN) {
        const first = batchRow + turn;
        const many = <usize>min(TURN, length - turn);
        touch(key + first * keyToken, many * keyToken);
        touch(value + first * valueToken, many * valueToken);
        if (mode) touch(decay + first * decayToken, many * decayToken);
        for (let i = 0; i < count; i++) {
          const h = <usize>(from + i);
          useHead(i);
          forwardTurn(turn, min(length, turn + TURN), key + h * keyStep, value + h * valueStep, decay + h * decayStep, beta ? beta + (h << 2) : 0);
        }
      }
      for (let i = 0; i < count; i++) {
        useHead(i);
        const chunks = load<i32>(place);
        store<i32>(starts + (<usize>chunks << 2), length);
        store<i32>(place, chunks - 1, 4);
        store<i32>(place, (chunks - 1) / segment, 8);
        applyPending(mode, 0, state);
        loadState(dFinal + <usize>(b * allHeads + from + i) * stateSize, dState);
        rowProducts(state, dState, nextAlong);
        for (let d: usize = 0; d < keyStride; d += 16) v128.store(nextDecay + d, splat(1));
      }
      for (let turn = lastTurn; turn >= 0; turn -= TURN) {
        const first = batchRow + turn;
        const many = <usize>min(TURN, length - turn);
        touch(key + first * keyToken, many * keyToken);
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
          let n = load<i32>(place, 4);
          while (n >= 0 && load<i32>(starts + (<usize>n << 2)) >= turn) {
            const headBeta = beta ? beta + (h << 2) : 0;
            keepSegment(n, key + h * keyStep, value + h * valueStep, decay + h * decayStep, headBeta);
            backwardChunk(
              n, query + h * keyStep * group, key + h * keyStep, decay + h * decayStep, headBeta, dOutput + h * valueStep * group,
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
          resetPending();
          if (mode) scaleState(dState, nextDecay, pending);
          storeState(dState, gInitial + <usize>(b * allHeads + from + i) * stateSize);
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
    applyPending(decayMode, count, state);
    if (chunk % segment == 0) memory.copy(segmentStates + <usize>(chunk / segment) * stateBytes, state, stateBytes);
    forwardChunk(count, chunk % segment, key + row * keyToken, value + row * valueToken, beta ? beta + row * betaToken : 0);
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
  memory.copy(state, segmentStates + <usize>kept * stateBytes, stateBytes);
  for (let m = kept * segment; m <= n; m++) {
    const start = load<i32>(starts + (<usize>m << 2));
    const count = load<i32>(starts + (<usize>(m + 1) << 2)) - start;
    const row = batchRow + start;
    chunkDecays(decayMode, decay + row * decayToken, decayToken, count);
    if (m == kept * segment) takePending(decayMode, count);
    else applyPending(decayMode, count, state);
    forwardChunk(count, m % segment, key + row * keyToken, value + row * valueToken, beta ? beta + row * betaToken : 0);
  }
}

/** Gradients of chunk n of one head; dState moves from the chunk's end to its start. */
function backwardChunk(
  n: i32, query: usize, key: usize, decay: usize, beta: usize, dOutput: usize,
  gQuery: usize, gKey: usize, gValue: usize, gDecay: usize, gBeta: usize,
): void {
  const mode = decayMode;
  const delta = beta != 0;
  const valueRow = <usize>valuePanels << 5;
  const keyPanelCount = <i32>(keyStride >> 5);
  const keyPadded = keyPanelCount << 3;
  const slot = <usize>(n % segment);
  const s0 = chunkStates + slot * stateBytes;
  const u = updates + slot * updateBytes;
  const start = load<i32>(starts + (<usize>n << 2));
  const count = load<i32>(starts + (<usize>(n + 1) << 2)) - start;
  const row = batchRow + start;
  if (mode) {
    resetPending();
    chunkDecays(mode, decay + row * decayToken, decayToken, count);
    copyRow(pending, firstDecay);
    scaleState(dState, eRows + <usize>(count - 1) * keyStride, nextDecay);
  }
  prepareKeys(mode, count, key + row * keyToken, keyToken);
  packRows(CHUNK, keyPadded, keyHat, keyStride, keyHatRows);
  transposePanels(keyDim, valuePanels, s0, statePanel, stateT, transposedPanel);
  transposePanels(keyDim, valuePanels, dState, statePanel, dStateT, transposedPanel);
  transposePanels(CHUNK, valuePanels, u, ROWS_PANEL, updateT, transposedPanel);
  panelsToRows(count, u, updateRows);
  memory.fill(dLog, 0, keyStride * CHUNK);
  // what the state after the chunk says
  rowsTimesState(count, keyHat, dState, dUpdate, 1, false);
  gemmPacked(count, keyPadded, valueDim, updateRows, valueRow, dStateT, transposedPanel, dKeyHat, keyStride, 32, 1, false);
  for (let g = 0; g < groupSize; g++) {
    const rows = dOutput + row * outToken + ((<usize>(g * valueDim)) << 2);
    const queryOffset = row * queryToken + ((<usize>(g * keyDim)) << 2);
    scaleRows(mode, count, query + queryOffset, queryToken, outputScale, queryTilde);
    packRows(CHUNK, keyPadded, queryTilde, keyStride, queryRows);
    lowerProduct(count, queryTilde, pSquare);
    clearUpper(count, pSquare, false);
    valuesToPanels(count, rows, outToken, dOut);
    addUpperTimesPanels(count, pSquare, dOut, valuePanels, dUpdate, 32, ROWS_PANEL);
    lowerValueProduct(count, rows, outToken, dSquare, 1);
    clearUpper(count, dSquare, false);
    gemmPacked(count, keyPadded, valueDim, rows, outToken, stateT, transposedPanel, dQuery, keyStride, 32, 1, false);
    addLowerTimesKeys(count, dSquare, keyHatRows, dQuery);
    addUpperTimesPanels(count, dSquare, queryRows, keyPanelCount, dKeyHat, keyStride, 32);
    gemmPackedTransposed(keyDim, valuePanels << 3, count, queryTilde, keyStride, dOut, ROWS_PANEL, dState, 32, statePanel, 1, true);
    if (mode) productRows(count, queryTilde, dQuery, dLog, 1);
    writeQueryGradient(mode, count, outputScale, gQuery + queryOffset, queryToken);
  }
  if (delta) {
    for (let i = 0; i < count; i++) store<f32>(betas + (<usize>i << 2), load<f32>(beta + (row + i) * betaToken));
    memory.fill(dBetas, 0, CHUNK * 4);
    lowerProduct(count, keyTilde, nSquare);
    solveBackward(count, dUpdate, raws + slot * updateBytes);
    for (let i = 0; i < count; i++) store<f32>(gBeta + (row + i) * betaToken, load<f32>(dBetas + (<usize>i << 2)));
    panelsToRows(count, dUpdate, dRows);
    lowerValueProduct(count, dRows, valueRow, dSquare, -1);
    clearUpper(count, dSquare, true);
    // without decays K~ is K^
    const keyRows = mode ? keyTildeRows : keyHatRows;
    if (mode) packRows(CHUNK, keyPadded, keyTilde, keyStride, keyRows);
    gemmPacked(count, keyPadded, valueDim, dRows, valueRow, stateT, transposedPanel, dKeyTilde, keyStride, 32, -1, false);
    addLowerTimesKeys(count, dSquare, keyHatRows, dKeyTilde);
    addUpperTimesPanels(count, dSquare, keyRows, keyPanelCount, dKeyHat, keyStride, 32);
    gemmPackedTransposed(keyDim, valuePanels << 3, count, keyTilde, keyStride, dUpdate, ROWS_PANEL, dState, 32, statePanel, -1, true);
    if (mode) productRows(count, keyTilde, dKeyTilde, dLog, 1);
  }
  panelsToTensor(count, dUpdate, gValue + row * valueToken, valueToken);
  writeKeyGradient(mode, delta, count, gKey + row * keyToken, keyToken);
  if (mode) {
    productRows(count, keyHat, dKeyHat, dLog, -1);
    rowProducts(s0, dState, along);
    writeDecayGradient(mode, count, gDecay + row * decayToken, decayToken);
    copyRow(along, nextAlong);
    copyRow(firstDecay, nextDecay);
  }
}

/** Keeps the state of one chunk, and computes and keeps its update; `state` moves on to the chunk's end. */
function forwardChunk(count: i32, slot: i32, key: usize, value: usize, beta: usize): void {
  const u = updates + <usize>slot * updateBytes;
  memory.copy(chunkStates + <usize>slot * stateBytes, state, stateBytes);
  prepareKeys(decayMode, count, key, keyToken);
  valuesToPanels(count, value, valueToken, u);
  if (beta) {
    for (let i = 0; i < count; i++) store<f32>(betas + (<usize>i << 2), load<f32>(beta + <usize>i * betaToken));
    lowerProduct(count, keyTilde, nSquare);
    rowsTimesState(count, keyTilde, state, u, -1, true);
    solveUpdate(count, u, raws + <usize>slot * updateBytes);
  }
  gemmPackedTransposed(keyDim, valuePanels << 3, count, keyHat, keyStride, u, ROWS_PANEL, state, 32, statePanel, 1, true);
}
