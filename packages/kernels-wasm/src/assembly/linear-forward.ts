import { packTransposed } from './gemm';
import {
  CHUNK, SQUARE_STRIDE, betas, chunkDecays, clearUpper, fillRow, keyDim, keyHat, keyHatPanels, keyStride, keyTilde, layoutChunk, nSquare, pSquare, packKeyHat,
  pending, prepareKeys, prepareQueries, queryTilde, readBetas, stateBytes, takePending, usePending, useSquare, valueDim, valuePadded, valueStride,
} from './linear-chunk';
import { SEGMENT, keptSquare, keptState, keptUpdate, useKept } from './linear-kept';
import { PIECE, PIECE_STRIDE, addPiece, invertPiece, lowerPiece, readPiece } from './linear-pieces';
import { MOST_STEPS, linearStep } from './linear-step';
import { touch } from './memory';
import { copyScaled, scaleByRow, writeRows } from './linear-rows';
import { addColumnsTimesRows, lowerProduct, pairStrip, rowsAndLowerTimes } from './linear-tile';

/** tokens that all heads go through before any goes on: rows of one token lie side by side, so memory is read in long runs */
const TURN: i32 = CHUNK;

let states: usize = 0; // [heads] states [keyDim][valuePadded]
let pendings: usize = 0; // [heads][keyStride]
let values: usize = 0; // [CHUNK][valueStride] rows of V, padded; what a step needs
let update: usize = 0; // [PIECE][valueStride] U of a piece
let inverse: usize = 0; // [PIECE][PIECE]
let rowsOut: usize = 0; // [CHUNK][valueStride] rows of the output, where they need padding

// arguments of the call, for the functions that go through a chunk
let groupSize: i32 = 0;
let decayMode: i32 = 0;
let outputScale: f32 = 0;
let keyToken: usize = 0;
let valueToken: usize = 0;
let queryToken: usize = 0;
let outToken: usize = 0;

function layoutForward(at: usize, heads: i32, dk: i32, dv: i32): usize {
  states = layoutChunk(at, dk, dv);
  pendings = states + stateBytes * heads;
  values = pendings + keyStride * heads;
  update = values + max(valueStride, keyStride) * CHUNK + 64;
  inverse = update + valueStride * PIECE;
  rowsOut = inverse + PIECE_STRIDE * PIECE;
  return rowsOut + valueStride * CHUNK + 64;
}

/** Bytes of scratch that linearForward needs. */
export function linearForwardBytes(heads: i32, dk: i32, dv: i32): i32 {
  return <i32>layoutForward(0, heads, dk, dv);
}

/**
 * Linear attention over a whole sequence; see the contract for the formulas.
 *
 * query [batch, length, heads * group, dk], key [batch, length, heads, dk], value [.., dv], decay per head (mode 1) or channel (mode 2), beta (0: not a delta rule),
 * initial (0: zeros) -> output [.., dv], final [batch, heads, dk, dv]; `kept` (0: nothing is kept) for what the gradient would compute again.
 * With a group of 0 there is no output, and final may be 0: only `kept` is filled.
 */
export function linearForward(
  batch: i32,
  length: i32,
  heads: i32,
  group: i32,
  dk: i32,
  dv: i32,
  mode: i32,
  scale: f32,
  query: usize,
  key: usize,
  value: usize,
  decay: usize,
  beta: usize,
  initial: usize,
  output: usize,
  final: usize,
  kept: usize,
  scratch: usize,
): void {
  layoutForward(scratch, heads, dk, dv);
  useKept(kept, batch, heads, length, beta != 0);
  groupSize = group;
  decayMode = mode;
  outputScale = scale;
  keyToken = (<usize>(heads * dk)) << 2;
  valueToken = (<usize>(heads * dv)) << 2;
  queryToken = keyToken * group;
  outToken = valueToken * group;
  const keyStep = <usize>dk << 2;
  const valueStep = <usize>dv << 2;
  const decayDim = mode == 2 ? dk : 1;
  const decayToken = (<usize>(heads * decayDim)) << 2;
  const betaToken = (<usize>heads) << 2;
  const stateSize = (<usize>(dk * dv)) << 2;
  if (!kept && length <= MOST_STEPS && valueDim == valuePadded) {
    for (let i = 0; i < batch * heads; i++) {
      const b = i / heads;
      const h = <usize>(i % heads);
      const state = final + <usize>i * stateSize;
      let from = initial + <usize>i * stateSize;
      if (!initial) {
        memory.fill(state, 0, stateSize);
        from = state;
      }
      for (let t = 0; t < length; t++) {
        const row = <usize>(b * length + t);
        linearStep(
          group, dk, dv, mode, scale, query + row * queryToken + h * keyStep * group, key + row * keyToken + h * keyStep, value + row * valueToken + h * valueStep,
          decay + row * decayToken + ((h * decayDim) << 2), beta ? beta + row * betaToken + (h << 2) : 0, from, state,
          output + row * outToken + h * valueStep * group, values,
        );
        from = state;
      }
    }
    return;
  }
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const state = states + stateBytes * h;
      fillRow(pendings + keyStride * h, 1);
      if (initial) copyScaled(dk, dv, initial + <usize>(b * heads + h) * stateSize, valueStep, 1, state, valueStride);
      else memory.fill(state, 0, stateBytes);
    }
    for (let turn = 0; turn < length; turn += TURN) {
      const end = min(length, turn + TURN);
      const first = <usize>(b * length + turn);
      const many = <usize>(end - turn);
      touch(key + first * keyToken, many * keyToken);
      touch(value + first * valueToken, many * valueToken);
      if (mode) touch(decay + first * decayToken, many * decayToken);
      touch(query + first * queryToken, many * queryToken);
      for (let h = 0; h < heads; h++) {
        const state = states + stateBytes * h;
        usePending(pendings + keyStride * h);
        if (kept && turn > 0 && turn % SEGMENT == 0) scaleByRow(dk, state, pending, keptState(b, h, turn / SEGMENT), valueStride);
        let t = turn;
        while (t < end) {
          const row = <usize>(b * length + t);
          const count = chunkDecays(mode, decay + row * decayToken + ((<usize>(h * decayDim)) << 2), decayToken, min(CHUNK, end - t));
          if (mode) {
            scaleByRow(dk, state, pending, state, valueStride);
            takePending(mode);
          }
          const q = query + row * queryToken + <usize>(h * group) * keyStep;
          const k = key + row * keyToken + <usize>h * keyStep;
          const v = value + row * valueToken + <usize>h * valueStep;
          const o = output + row * outToken + <usize>(h * group) * valueStep;
          if (beta) {
            readBetas(count, beta + row * betaToken + ((<usize>h) << 2), betaToken);
            if (kept) useSquare(keptSquare(b, h, t));
            deltaChunk(count, state, q, k, v, o, kept ? keptUpdate(b, h, t) : 0);
          } else {
            plainChunk(count, state, q, k, v, o);
          }
          t += count;
        }
      }
    }
    if (!final) continue;
    for (let h = 0; h < heads; h++) {
      const state = states + stateBytes * h;
      if (mode) scaleByRow(dk, state, pendings + keyStride * h, state, valueStride);
      writeRows(dk, dv, state, valueStride, final + <usize>(b * heads + h) * stateSize, valueStep);
    }
  }
}

/** One chunk of a rule without beta: U = V. */
function plainChunk(count: i32, state: usize, query: usize, key: usize, value: usize, output: usize): void {
  prepareKeys(decayMode, false, count, key, keyToken);
  copyScaled(count, valueDim, value, valueToken, 1, values, valueStride);
  if (groupSize > 0) packKeyHat(count);
  for (let g = 0; g < groupSize; g++) {
    prepareQueries(decayMode, 0, count, query, queryToken, outputScale);
    lowerProduct(count, keyDim, queryTilde, keyStride, keyHatPanels, pSquare, SQUARE_STRIDE, 1);
    clearUpper(count, pSquare, SQUARE_STRIDE, false);
    const whole = valueDim == valuePadded;
    rowsAndLowerTimes(
      count, valuePadded, keyDim, queryTilde, keyStride, state, valueStride, pSquare, SQUARE_STRIDE, values, valueStride,
      whole ? output : rowsOut, whole ? outToken : valueStride, 1,
    );
    if (!whole) writeRows(count, valueDim, rowsOut, valueStride, output, outToken);
    query += <usize>keyDim << 2;
    output += <usize>valueDim << 2;
  }
  addColumnsTimesRows(keyDim, valuePadded, count, keyHat, keyStride, values, valueStride, state, valueStride, 1);
}

/** One chunk of a delta rule, piece by piece; X goes to `x` when it is not 0. */
function deltaChunk(count: i32, state: usize, query: usize, key: usize, value: usize, output: usize, x: usize): void {
  const whole = valueDim == valuePadded;
  prepareKeys(decayMode, true, count, key, keyToken);
  if (!whole) {
    copyScaled(count, valueDim, value, valueToken, 1, values, valueStride);
    value = values;
  }
  const valueRow = whole ? valueToken : valueStride;
  for (let i = 0; i < count; i += PIECE) {
    const rows = min(PIECE, count - i);
    const first = <usize>i;
    const tilde = keyTilde + first * keyStride;
    const square = nSquare + first * PIECE_STRIDE;
    packTransposed(keyDim, rows, keyHat + first * keyStride, keyStride, keyHatPanels);
    lowerPiece(keyDim, tilde, keyStride, keyHatPanels, square, rows, true);
    invertPiece(rows, square, betas + (first << 2), inverse);
    readPiece(
      keyDim, tilde, keyStride, state, valueStride, value + first * valueRow, valueRow, inverse, betas + (first << 2), update, valueStride,
      x ? x + first * valueStride : 0, valueStride, valuePadded, rows,
    );
    let q = query + first * queryToken;
    let o = output + first * outToken;
    for (let g = 0; g < groupSize; g++) {
      prepareQueries(decayMode, i, rows, q, queryToken, outputScale);
      lowerPiece(keyDim, queryTilde, keyStride, keyHatPanels, pSquare, rows, false);
      pairStrip(
        keyDim, queryTilde, keyStride, state, valueStride, rows, pSquare, PIECE_STRIDE, update, valueStride,
        whole ? o : rowsOut, whole ? outToken : valueStride, valuePadded, rows, 1,
      );
      if (!whole) writeRows(rows, valueDim, rowsOut, valueStride, o, outToken);
      q += <usize>keyDim << 2;
      o += <usize>valueDim << 2;
    }
    addPiece(keyDim, valuePadded, keyHatPanels, update, valueStride, state, valueStride);
  }
}
