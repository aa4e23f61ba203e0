import { gemmPacked, gemmPackedTransposed } from './gemm';
import {
  CHUNK,
  ROWS_PANEL,
  addLowerTimesPanels,
  applyPending,
  betas,
  chunkDecays,
  clearUpper,
  keyDim,
  keyHat,
  keyStride,
  keyTilde,
  layoutChunk,
  loadState,
  lowerProduct,
  nSquare,
  pSquare,
  prepareKeys,
  queryStep,
  queryTilde,
  resetPending,
  rowsTimesState,
  scaleRows,
  solveUpdate,
  stateBytes,
  statePanel,
  storeState,
  usePending,
  valueDim,
  valuePanels,
  valuesToPanels,
} from './linear-chunk';
import { touch } from './linear-memory';

/** tokens that all heads go through before any goes on: rows of one token lie side by side, so memory is read in long runs */
const TURN: i32 = CHUNK;

let states: usize = 0; // [heads] states in panels
let pendings: usize = 0; // [heads][keyStride]
let update: usize = 0; // [valuePanels][CHUNK][8]

function layoutForward(at: usize, heads: i32, dk: i32, dv: i32, group: i32): usize {
  states = layoutChunk(at, dk, dv, group);
  pendings = states + stateBytes * heads;
  update = pendings + keyStride * heads;
  return update + ROWS_PANEL * valuePanels + 64;
}

/** Bytes of scratch that linearForward needs. */
export function linearForwardBytes(heads: i32, dk: i32, dv: i32, group: i32): i32 {
  return <i32>layoutForward(0, heads, dk, dv, group);
}

/**
 * Linear attention over a whole sequence; see the contract for the formulas.
 *
 * query [batch, length, heads * group, dk], key [batch, length, heads, dk], value [.., dv], decay per head (mode 1) or channel (mode 2), beta (0: not a delta rule),
 * initial (0: zeros) -> output [.., dv], final [batch, heads, dk, dv].
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
  scratch: usize,
): void {
  layoutForward(scratch, heads, dk, dv, group);
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
      usePending(pendings + keyStride * h);
      resetPending();
      loadState(initial ? initial + <usize>(b * heads + h) * stateSize : 0, states + stateBytes * h);
    }
    for (let turn = 0; turn < length; turn += TURN) {
      const end = min(length, turn + TURN);
      const first = <usize>(b * length + turn);
      const many = <usize>(end - turn);
      touch(key + first * keyToken, many * keyToken);
      touch(value + first * valueToken, many * valueToken);
      if (mode) touch(decay + first * decayToken, many * decayToken);
      touch(query + first * queryToken, many * queryToken);
      touch(output + first * outToken, many * outToken);
      for (let h = 0; h < heads; h++) {
        const state = states + stateBytes * h;
        usePending(pendings + keyStride * h);
        let t = turn;
        while (t < end) {
          const row = <usize>(b * length + t);
          const count = chunkDecays(mode, decay + row * decayToken + ((<usize>(h * decayDim)) << 2), decayToken, min(CHUNK, end - t));
          applyPending(mode, count, state);
          prepareKeys(mode, count, key + row * keyToken + ((<usize>(h * dk)) << 2), keyToken);
          valuesToPanels(count, value + row * valueToken + ((<usize>(h * dv)) << 2), valueToken, update);
          if (beta) {
            for (let i = 0; i < count; i++)
              store<f32>(betas + ((<usize>i) << 2), load<f32>(beta + (row + i) * betaToken + ((<usize>h) << 2)));
            lowerProduct(count, keyTilde, nSquare);
            rowsTimesState(count, keyTilde, state, update, -1, true);
            solveUpdate(count, update, 0);
          }
          for (let g = 0; g < group; g++) {
            const head = <usize>(h * group + g);
            const rows = queryTilde + queryStep() * g;
            const out = output + row * outToken + ((head * dv) << 2);
            scaleRows(mode, count, query + row * queryToken + ((head * dk) << 2), queryToken, scale, rows);
            lowerProduct(count, rows, pSquare);
            clearUpper(count, pSquare, false);
            gemmPacked(count, valueDim, keyDim, rows, keyStride, state, statePanel, out, outToken, 32, 1, false);
            addLowerTimesPanels(count, pSquare, update, out, outToken);
          }
          gemmPackedTransposed(keyDim, valuePanels << 3, count, keyHat, keyStride, update, ROWS_PANEL, state, 32, statePanel, 1, true);
          t += count;
        }
      }
    }
    for (let h = 0; h < heads; h++) {
      usePending(pendings + keyStride * h);
      applyPending(mode, 0, states + stateBytes * h);
      storeState(states + stateBytes * h, final + <usize>(b * heads + h) * stateSize);
    }
  }
}
