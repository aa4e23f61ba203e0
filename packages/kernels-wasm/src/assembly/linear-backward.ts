import { fma, laneSum, nfma, splat, storeSome } from './lanes';
import { gemmPacked, gemmPackedTransposed, packRows } from './gemm';
import { stripColumns, stripRows } from './tile';
import {
  CHUNK, ROWS_PANEL, SQUARE_STRIDE, applyPending, betas, chunkDecays, clearUpper, copyRow, eRows, keyDim, keyHat, keyStride, keyTilde, layoutChunk, loadState, lowerProduct,
  nSquare, pSquare, panelsToRows, panelsToTensor, pending, prepareKeys, queryTilde, resetPending, rowsTimesState, scaleRows, solveUpdate, stateBytes, statePanel,
  storeState, takePending, transposePanels, usePending, valueDim, valuePanels, valuesToPanels,
} from './linear-chunk';

// gradient of linear attention: the states at the chunks' starts are computed again and kept for one segment of chunks at a time, then the chunks are walked backwards

/** tokens that a group of heads goes through before any goes on, as in the forward */
const TURN: i32 = CHUNK * 2;

let segment: i32 = 0; // chunks whose states are kept
let heads: i32 = 0; // heads that take turns
let headBlock: usize = 0; // [heads] what each head keeps
let headBytes: usize = 0;
// of the head whose turn it is:
let place: usize = 0; // [4] chunks, chunk whose gradient comes next, segment whose states are kept
let starts: usize = 0; // [length + 1] first token of each chunk
let chunkStates: usize = 0; // [segment] states
let segmentStates: usize = 0; // [segments] states
let updates: usize = 0; // [segment] U in panels
let raws: usize = 0; // [segment] X in panels (delta rules)
let state: usize = 0;
let dState: usize = 0;
let nextDecay: usize = 0; // [keyStride] first decay of the chunk after this one
let nextAlong: usize = 0; // [keyStride] sum over v of S dS per key channel, at the start of the chunk after this one
let headPending: usize = 0; // [keyStride]
// of all heads:
let updateBytes: usize = 0;
let segments: i32 = 0;
let tokens: i32 = 0;
let withRaws: bool = false;
let stateT: usize = 0; // [keyPanels][valuePanels * 8][8]
let dStateT: usize = 0;
let transposedPanel: usize = 0;
let dUpdate: usize = 0; // panels
let dOut: usize = 0; // panels
let updateT: usize = 0; // [3][valuePanels * 8][8]
let updateRows: usize = 0; // [CHUNK][valuePanels * 8]
let dRows: usize = 0; // [CHUNK][valuePanels * 8]
let keyHatRows: usize = 0; // panels [keyPanels][CHUNK][8]
let keyTildeRows: usize = 0;
let queryRows: usize = 0;
let dSquare: usize = 0;
let dQuery: usize = 0; // [CHUNK][keyStride]
let dKeyTilde: usize = 0;
let dKeyHat: usize = 0;
let dLog: usize = 0; // [CHUNK][keyStride] gradient of the sums of log decays
let dBetas: usize = 0;
let firstDecay: usize = 0; // [keyStride] of the chunk
let along: usize = 0; // [keyStride] sum over v of S dS, at the start of the chunk

/** Points at what head `i` of the group keeps; returns the end of it. */
function useHead(i: i32): usize {
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

function layoutBackward(at: usize, allHeads: i32, dk: i32, dv: i32, length: i32, delta: bool): usize {
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

/** to[d] = sum over v of a[d, v] b[d, v], both states in panels. */
function rowProducts(a: usize, b: usize, to: usize): void {
  memory.fill(to, 0, keyStride);
  for (let d = 0; d < keyDim; d++) {
    let sum = splat(0);
    let p = a + (<usize>d << 5);
    let q = b + (<usize>d << 5);
    for (let panel = 0; panel < valuePanels; panel++) {
      sum = fma(v128.load(p), v128.load(q), sum);
      sum = fma(v128.load(p, 16), v128.load(q, 16), sum);
      p += statePanel;
      q += statePanel;
    }
    store<f32>(to + (<usize>d << 2), laneSum(sum));
  }
}

/** c_j += alpha * sum over i >= j of a_ij b_i: the transpose of a lower triangle times rows in panels, C in panels or row-major. */
export function addUpperTimesPanels(count: i32, square: usize, b: usize, panels: i32, c: usize, ldc: usize, cstep: usize): void {
  for (let j = 0; j < count; j += 6) {
    const height = min(6, count - j);
    const a = square + <usize>j * SQUARE_STRIDE + (<usize>j << 2);
    stripColumns(count - j, a, SQUARE_STRIDE, b + (<usize>j << 5), ROWS_PANEL, c + <usize>j * ldc, ldc, cstep, panels << 3, height, 1, true);
  }
}

/** c_i += sum over j <= i of a_ij b_j with rows of C of keyStride bytes. */
export function addLowerTimesKeys(count: i32, square: usize, b: usize, c: usize): void {
  const panels = <i32>(keyStride >> 5);
  for (let i = 0; i < count; i += 6) {
    const height = min(6, count - i);
    stripRows(i + height, square + <usize>i * SQUARE_STRIDE, SQUARE_STRIDE, b, ROWS_PANEL, c + <usize>i * keyStride, keyStride, 32, panels << 3, height, 1, true);
  }
}

/** square[i, j] = alpha rows_i · U_j for the panels that reach the diagonal. */
export function lowerValueProduct(count: i32, rows: usize, stride: usize, square: usize, alpha: f32): void {
  for (let i = 0; i < count; i += 6) {
    const height = min(6, count - i);
    stripRows(valueDim, rows + <usize>i * stride, stride, updateT, transposedPanel, square + <usize>i * SQUARE_STRIDE, SQUARE_STRIDE, 32, (i + height + 7) & ~7, height, alpha, false);
  }
}

/** Solves for the gradient of R in place of that of U, and adds the gradient of beta to dBetas. */
export function solveBackward(count: i32, du: usize, x: usize): void {
  const last = ((count - 1) / 6) * 6;
  for (let panel = 0; panel < valuePanels; panel++) {
    const column = du + <usize>panel * ROWS_PANEL;
    for (let j = last; j >= 0; j -= 6) {
      const height = min(6, count - j);
      const block = column + (<usize>j << 5);
      const below = j + height;
      if (below < count) {
        stripColumns(count - below, nSquare + <usize>below * SQUARE_STRIDE + (<usize>j << 2), SQUARE_STRIDE, column + (<usize>below << 5), 0, block, 32, 0, 8, height, -1, true);
      }
      for (let r = height - 1; r >= 0; r--) {
        const at = block + (<usize>r << 5);
        let y0 = v128.load(at);
        let y1 = v128.load(at, 16);
        for (let s = r + 1; s < height; s++) {
          const c = v128.load32_splat(nSquare + <usize>(j + s) * SQUARE_STRIDE + (<usize>(j + r) << 2));
          const from = block + (<usize>s << 5);
          y0 = nfma(c, v128.load(from), y0);
          y1 = nfma(c, v128.load(from, 16), y1);
        }
        const row = <usize>(j + r);
        const raw = x + <usize>panel * ROWS_PANEL + (row << 5);
        const dBeta = dBetas + (row << 2);
        store<f32>(dBeta, load<f32>(dBeta) + laneSum(fma(y0, v128.load(raw), f32x4.mul(y1, v128.load(raw, 16)))));
        const beta = v128.load32_splat(betas + (row << 2));
        v128.store(at, f32x4.mul(y0, beta));
        v128.store(at, f32x4.mul(y1, beta), 16);
      }
    }
  }
}

/** to = x * y, or to += sign * x * y, over `count` padded key rows. */
function productRows(count: i32, x: usize, y: usize, to: usize, sign: f32): void {
  const s = splat(sign);
  const end = keyStride * count;
  for (let at: usize = 0; at < end; at += 16) {
    v128.store(to + at, fma(f32x4.mul(s, v128.load(x + at)), v128.load(y + at), v128.load(to + at)));
  }
}

/** One row of keyDim floats to a tensor. */
// @ts-ignore: decorator
@inline
function storeKey(to: usize, d: i32, x: v128): void {
  if (d + 4 <= keyDim) v128.store(to + (<usize>d << 2), x);
  else if (d < keyDim) storeSome(to + (<usize>d << 2), x, keyDim - d);
}

/** dq = scale e dQ~ to the tensor. */
function writeQueryGradient(mode: i32, count: i32, scale: f32, to: usize, stride: usize): void {
  const s = splat(scale);
  for (let i = 0; i < count; i++) {
    const row = <usize>i * keyStride;
    for (let d = 0; d < keyDim; d += 4) {
      let y = f32x4.mul(s, v128.load(dQuery + row + (<usize>d << 2)));
      if (mode) y = f32x4.mul(y, v128.load(eRows + row + (<usize>d << 2)));
      storeKey(to, d, y);
    }
    to += stride;
  }
}

/** dk = e dK~ + dK^ / e to the tensor. */
function writeKeyGradient(mode: i32, delta: bool, count: i32, to: usize, stride: usize): void {
  for (let i = 0; i < count; i++) {
    const row = <usize>i * keyStride;
    for (let d = 0; d < keyDim; d += 4) {
      const at = row + (<usize>d << 2);
      let y = v128.load(dKeyHat + at);
      if (mode) y = f32x4.div(y, v128.load(eRows + at));
      if (delta) {
        const z = v128.load(dKeyTilde + at);
        y = mode ? fma(z, v128.load(eRows + at), y) : f32x4.add(y, z);
      }
      storeKey(to, d, y);
    }
    to += stride;
  }
}

/** Gradient of the log decays: sums of dLog from the end of the chunk, and what flows through the states at both ends. */
function writeDecayGradient(mode: i32, count: i32, to: usize, stride: usize): void {
  to += stride * (count - 1);
  if (mode == 1) {
    // one number per token: keep the running sum in double precision
    let past: f64 = 0;
    let start: f64 = 0;
    for (let d = 0; d < keyDim; d++) {
      past += <f64>load<f32>(nextAlong + (<usize>d << 2));
      start += <f64>load<f32>(along + (<usize>d << 2));
    }
    for (let i = count - 1; i > 0; i--) {
      let sum = splat(0);
      const row = dLog + <usize>i * keyStride;
      for (let d: usize = 0; d < keyStride; d += 16) sum = f32x4.add(sum, v128.load(row + d));
      past += <f64>laneSum(sum);
      store<f32>(to, <f32>past);
      to -= stride;
    }
    store<f32>(to, <f32>start);
    return;
  }
  for (let i = count - 1; i > 0; i--) {
    const row = dLog + <usize>i * keyStride;
    for (let d = 0; d < keyDim; d += 4) {
      const at = <usize>d << 2;
      const sum = f32x4.add(v128.load(nextAlong + at), v128.load(row + at));
      v128.store(nextAlong + at, sum);
      storeKey(to, d, sum);
    }
    to -= stride;
  }
  for (let d = 0; d < keyDim; d += 4) storeKey(to, d, v128.load(along + (<usize>d << 2)));
}

/** state rows *= a * b, one factor per key channel. */
function scaleState(target: usize, a: usize, b: usize): void {
  for (let panel = 0; panel < valuePanels; panel++) {
    let at = target + <usize>panel * statePanel;
    for (let d = 0; d < keyDim; d++) {
      const factor = splat(load<f32>(a + (<usize>d << 2)) * load<f32>(b + (<usize>d << 2)));
      v128.store(at, f32x4.mul(v128.load(at), factor));
      v128.store(at, f32x4.mul(v128.load(at, 16), factor), 16);
      at += 32;
    }
  }
}

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
    packRows(CHUNK, keyPadded, keyTilde, keyStride, keyTildeRows);
    gemmPacked(count, keyPadded, valueDim, dRows, valueRow, stateT, transposedPanel, dKeyTilde, keyStride, 32, -1, false);
    addLowerTimesKeys(count, dSquare, keyHatRows, dKeyTilde);
    addUpperTimesPanels(count, dSquare, keyTildeRows, keyPanelCount, dKeyHat, keyStride, 32);
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
