import { packTransposed } from './gemm';
import {
  beginCall, betaOffset, betaToken, decayMode, decayOffset, decayToken, groupSize, keyOffset, keyStep, keyToken, offsetsOf, outOffset, outToken, outputScale, queryOffset,
  queryToken, stateOffset, stateStep, tokens, valueOffset, valueStep, valueToken,
} from './linear-call';
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
let queryAt: usize = 0;
let keyAt: usize = 0;
let valueAt: usize = 0;
let decayAt: usize = 0;
let betaAt: usize = 0;
let outputAt: usize = 0;
let keeping: bool = false;

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
  beginCall(length, heads, group, dk, dv, mode, scale);
  layoutForward(scratch, heads, dk, dv);
  useKept(kept, batch, heads, length, beta != 0);
  queryAt = query;
  keyAt = key;
  valueAt = value;
  decayAt = decay;
  betaAt = beta;
  outputAt = output;
  keeping = kept != 0;
  const few = !keeping && length <= MOST_STEPS && valueDim == valuePadded;
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const state = states + stateBytes * h;
      offsetsOf(b, h);
      if (few) {
        steps(initial ? initial + stateOffset() : 0, final + stateOffset());
        continue;
      }
      fillRow(pendings + keyStride * h, 1);
      if (initial) copyScaled(dk, dv, initial + stateOffset(), valueStep, 1, state, valueStride);
      else memory.fill(state, 0, stateBytes);
    }
    if (few) continue;
    for (let turn = 0; turn < length; turn += TURN) {
      const end = min(length, turn + TURN);
      const many = <usize>(end - turn);
      offsetsOf(b, 0);
      touch(key + keyOffset(turn), many * keyToken);
      touch(value + valueOffset(turn), many * valueToken);
      if (mode) touch(decay + decayOffset(turn), many * decayToken);
      touch(query + queryOffset(turn), many * queryToken);
      for (let h = 0; h < heads; h++) {
        const state = states + stateBytes * h;
        offsetsOf(b, h);
        usePending(pendings + keyStride * h);
        if (keeping && turn > 0 && turn % SEGMENT == 0) scaleByRow(dk, state, pending, keptState(b, h, turn / SEGMENT), valueStride);
        let t = turn;
        while (t < end) {
          const count = chunkDecays(mode, decay + decayOffset(t), decayToken, min(CHUNK, end - t));
          if (mode) {
            scaleByRow(dk, state, pending, state, valueStride);
            takePending(mode);
          }
          if (keeping && beta) useSquare(keptSquare(b, h, t));
          if (beta) deltaChunk(count, t, state, keeping ? keptUpdate(b, h, t) : 0);
          else plainChunk(count, t, state);
          t += count;
        }
      }
    }
    if (!final) continue;
    for (let h = 0; h < heads; h++) {
      const state = states + stateBytes * h;
      offsetsOf(b, h);
      if (mode) scaleByRow(dk, state, pendings + keyStride * h, state, valueStride);
      writeRows(dk, dv, state, valueStride, final + stateOffset(), valueStep);
    }
  }
}

/** A few tokens of one head, one by one. */
function steps(from: usize, state: usize): void {
  if (!from) {
    memory.fill(state, 0, stateStep);
    from = state;
  }
  for (let t = 0; t < tokens; t++) {
    linearStep(
      groupSize, keyDim, valueDim, decayMode, outputScale, queryAt + queryOffset(t), keyAt + keyOffset(t), valueAt + valueOffset(t), decayAt + decayOffset(t),
      betaAt ? betaAt + betaOffset(t) : 0, from, state, outputAt + outOffset(t), values,
    );
    from = state;
  }
}

/** The chunk from token t of a rule without beta: U = V. */
function plainChunk(count: i32, t: i32, state: usize): void {
  const whole = valueDim == valuePadded;
  prepareKeys(decayMode, false, count, keyAt + keyOffset(t), keyToken);
  copyScaled(count, valueDim, valueAt + valueOffset(t), valueToken, 1, values, valueStride);
  if (groupSize > 0) packKeyHat(count);
  for (let g = 0; g < groupSize; g++) {
    const out = outputAt + outOffset(t) + valueStep * g;
    prepareQueries(decayMode, 0, count, queryAt + queryOffset(t) + keyStep * g, queryToken, outputScale);
    lowerProduct(count, keyDim, queryTilde, keyStride, keyHatPanels, pSquare, SQUARE_STRIDE, 1);
    clearUpper(count, pSquare);
    rowsAndLowerTimes(
      count, valuePadded, keyDim, queryTilde, keyStride, state, valueStride, pSquare, SQUARE_STRIDE, values, valueStride,
      whole ? out : rowsOut, whole ? outToken : valueStride, 1,
    );
    if (!whole) writeRows(count, valueDim, rowsOut, valueStride, out, outToken);
  }
  addColumnsTimesRows(keyDim, valuePadded, count, keyHat, keyStride, values, valueStride, state, valueStride, 1);
}

/** The chunk from token t of a delta rule, piece by piece; X goes to `x` when it is not 0. */
function deltaChunk(count: i32, t: i32, state: usize, x: usize): void {
  const whole = valueDim == valuePadded;
  prepareKeys(decayMode, true, count, keyAt + keyOffset(t), keyToken);
  readBetas(count, betaAt + betaOffset(t), betaToken);
  if (!whole) copyScaled(count, valueDim, valueAt + valueOffset(t), valueToken, 1, values, valueStride);
  for (let i = 0; i < count; i += PIECE) {
    const rows = min(PIECE, count - i);
    const first = <usize>i;
    const tilde = keyTilde + first * keyStride;
    const square = nSquare + first * PIECE_STRIDE;
    const strengths = betas + (first << 2);
    packTransposed(keyDim, rows, keyHat + first * keyStride, keyStride, keyHatPanels);
    lowerPiece(keyDim, tilde, keyStride, keyHatPanels, square, rows, true);
    invertPiece(rows, square, strengths, inverse);
    readPiece(
      keyDim, tilde, keyStride, state, valueStride, whole ? valueAt + valueOffset(t + i) : values + first * valueStride, whole ? valueToken : valueStride, inverse,
      strengths, update, valueStride, x ? x + first * valueStride : 0, valueStride, valuePadded, rows,
    );
    for (let g = 0; g < groupSize; g++) {
      const out = outputAt + outOffset(t + i) + valueStep * g;
      prepareQueries(decayMode, i, rows, queryAt + queryOffset(t + i) + keyStep * g, queryToken, outputScale);
      lowerPiece(keyDim, queryTilde, keyStride, keyHatPanels, pSquare, rows, false);
      pairStrip(
        keyDim, queryTilde, keyStride, state, valueStride, rows, pSquare, PIECE_STRIDE, update, valueStride,
        whole ? out : rowsOut, whole ? outToken : valueStride, valuePadded, rows, 1,
      );
      if (!whole) writeRows(rows, valueDim, rowsOut, valueStride, out, outToken);
    }
    addPiece(keyDim, valuePadded, keyHatPanels, update, valueStride, state, valueStride);
  }
}
