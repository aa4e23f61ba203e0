import {
  CHUNK, SQUARE_STRIDE, chunkDecays, clearUpper, fillRow, keyDim, keyHat, keyHatPanels, keyStride, keyTilde, layoutChunk, nSquare, pSquare, packKeyHat, pending,
  prepareKeys, prepareQueries, queryTilde, readBetas, solveUpdate, stateBytes, takePending, usePending, useSquare, valueDim, valuePadded, valueStride,
} from './linear-chunk';
import { keptSquare, keptUpdate, useKept } from './linear-kept';
import { touch } from './memory';
import { copyScaled, scaleByRow, writeRows } from './linear-rows';
import { addColumnsTimesRows, addLowerTimesRows, lowerProduct, rowsAndLowerTimes, rowsTimes } from './linear-tile';

/** tokens that all heads go through before any goes on: rows of one token lie side by side, so memory is read in long runs */
const TURN: i32 = CHUNK;

let states: usize = 0; // [heads] states [keyDim][valuePadded]
let pendings: usize = 0; // [heads][keyStride]
let update: usize = 0; // [CHUNK][valueStride]

function layoutForward(at: usize, heads: i32, dk: i32, dv: i32): usize {
  states = layoutChunk(at, dk, dv);
  pendings = states + stateBytes * heads;
  update = pendings + keyStride * heads;
  return update + valueStride * CHUNK + 64;
}

/** Bytes of scratch that linearForward needs. */
export function linearForwardBytes(heads: i32, dk: i32, dv: i32): i32 {
  return <i32>layoutForward(0, heads, dk, dv);
}

/**
 * Linear attention over a whole sequence; see the contract for the formulas.
 *
 * query [batch, length, heads * group, dk], key [batch, length, heads, dk], value [.., dv], decay per head (mode 1) or channel (mode 2), beta (0: not a delta rule),
 * initial (0: zeros) -> output [.., dv], final [batch, heads, dk, dv]; `kept` (0: nothing is kept) for what the gradient of a delta rule would compute again.
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
  useKept(kept, batch, heads, length);
  const keyToken = (<usize>(heads * dk)) << 2;
  const valueToken = (<usize>(heads * dv)) << 2;
  const queryToken = keyToken * group;
  const outToken = valueToken * group;
  const decayDim = mode == 2 ? dk : 1;
  const decayToken = (<usize>(heads * decayDim)) << 2;
  const betaToken = (<usize>heads) << 2;
  const stateSize = (<usize>(dk * dv)) << 2;
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const state = states + stateBytes * h;
      fillRow(pendings + keyStride * h, 1);
      if (initial) copyScaled(dk, dv, initial + <usize>(b * heads + h) * stateSize, <usize>dv << 2, 1, state, valueStride);
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
        let t = turn;
        while (t < end) {
          const row = <usize>(b * length + t);
          const count = chunkDecays(mode, decay + row * decayToken + ((<usize>(h * decayDim)) << 2), decayToken, min(CHUNK, end - t));
          if (mode) {
            scaleByRow(dk, state, pending, state, valueStride);
            takePending(mode);
          }
          prepareKeys(mode, beta != 0, count, key + row * keyToken + ((<usize>(h * dk)) << 2), keyToken);
          packKeyHat(count);
          copyScaled(count, dv, value + row * valueToken + ((<usize>(h * dv)) << 2), valueToken, 1, update, valueStride);
          if (beta) {
            readBetas(count, beta + row * betaToken + ((<usize>h) << 2), betaToken);
            if (kept) useSquare(keptSquare(b, h, t));
            lowerProduct(count, keyDim, keyTilde, keyStride, keyHatPanels, nSquare, SQUARE_STRIDE, 1);
            rowsTimes(count, valuePadded, keyDim, keyTilde, keyStride, state, valueStride, 32, update, valueStride, -1, true);
            solveUpdate(count, update, kept ? keptUpdate(b, h, t) : 0);
          }
          for (let g = 0; g < group; g++) {
            const head = <usize>(h * group + g);
            const out = output + row * outToken + ((head * dv) << 2);
            prepareQueries(mode, count, query + row * queryToken + ((head * dk) << 2), queryToken, scale);
            lowerProduct(count, keyDim, queryTilde, keyStride, keyHatPanels, pSquare, SQUARE_STRIDE, 1);
            clearUpper(count, pSquare, false);
            if (valueDim == valuePadded) {
              rowsAndLowerTimes(
                count, valueDim, keyDim, queryTilde, keyStride, state, valueStride, pSquare, SQUARE_STRIDE, update, valueStride, out, outToken, 1,
              );
            } else {
              rowsTimes(count, valueDim, keyDim, queryTilde, keyStride, state, valueStride, 32, out, outToken, 1, false);
              addLowerTimesRows(count, valueDim, pSquare, SQUARE_STRIDE, update, valueStride, out, outToken);
            }
          }
          addColumnsTimesRows(keyDim, valuePadded, count, keyHat, keyStride, update, valueStride, state, valueStride, 1);
          t += count;
        }
      }
    }
    for (let h = 0; h < heads; h++) {
      const state = states + stateBytes * h;
      if (mode) scaleByRow(dk, state, pendings + keyStride * h, state, valueStride);
      writeRows(dk, dv, state, valueStride, final + <usize>(b * heads + h) * stateSize, <usize>dv << 2);
    }
  }
}
