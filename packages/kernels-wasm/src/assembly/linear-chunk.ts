import { exp1, expDecay4, loadSome, splat } from './lanes';
import { packTransposed } from './gemm';
import { PIECE } from './linear-pieces';
import { copyScaled, scaleByColumn } from './linear-rows';

// one chunk of linear attention for one state head: decays, the keys, the two triangular matrices, the update.
//
// with e_i the product of the decays of tokens 1..i of the chunk (e_0 = 1; the decay of token 0 is applied to the state before the chunk):
//   keys    K~_i = k_i e_i   K^_i = k_i / e_i     queries Q~_i = scale q_i e_i
//   N = strictly lower(K~ K^T^)   P = lower(Q~ K^T^)   R = V - K~ S   U_i = beta_i (R_i - sum_j<i N_ij U_j)
//   output = Q~ S + P U           S' = S + K^T U       next state = e_last S'
// a chunk ends early when some e leaves [1e-18, 1e18], so that 1 / e stays finite however strong the decays are

/** longest chunk: four tiles of six rows, three panels of eight columns */
export const CHUNK: i32 = 24;

export let keyDim: i32 = 0;
export let valueDim: i32 = 0;
/** widths padded to whole vectors of eight, and the bytes of such a row */
export let keyPadded: i32 = 0;
export let valuePadded: i32 = 0;
export let keyStride: usize = 0;
export let valueStride: usize = 0;
/** bytes of a state [keyDim][valuePadded], and of one transposed: [valueDim][keyPadded] */
export let stateBytes: usize = 0;
export let transposedBytes: usize = 0;
/** bytes of a row of the CHUNK x CHUNK matrices, with room for reads beyond the end */
export const SQUARE_STRIDE: usize = CHUNK * 4;

let eRows: usize = 0; // [CHUNK][keyStride] e_i, with decays per channel
let eHeads: usize = 0; // [CHUNK] e_i, with decays per head
export let lastDecays: usize = 0; // [keyStride] e of the chunk's last token
export let keyHat: usize = 0; // [CHUNK][keyStride]
export let keyTilde: usize = 0; // [CHUNK][keyStride]: its own rows, or those of keyHat where there are no decays
let keyTildeOwn: usize = 0;
export let queryTilde: usize = 0; // [CHUNK][keyStride]
export let keyHatPanels: usize = 0; // [3][keyDim][8]: transposed
export let nSquare: usize = 0; // [CHUNK][PIECE_STRIDE] N among the tokens of a piece
export let pSquare: usize = 0; // [CHUNK][CHUNK]
export let betas: usize = 0; // [CHUNK]
export let pending: usize = 0; // [keyStride] factor of the state's rows before the next chunk

/** Lays the chunk's scratch out from `at`; returns the end. */
export function layoutChunk(at: usize, dk: i32, dv: i32): usize {
  keyDim = dk;
  valueDim = dv;
  keyPadded = (dk + 7) & ~7;
  valuePadded = (dv + 7) & ~7;
  keyStride = <usize>keyPadded << 2;
  valueStride = <usize>valuePadded << 2;
  stateBytes = valueStride * dk;
  transposedBytes = keyStride * dv;
  const rows = keyStride * CHUNK + 64;
  eRows = at;
  eHeads = eRows + rows;
  lastDecays = eHeads + CHUNK * 4;
  keyTildeOwn = lastDecays + keyStride;
  keyTilde = keyTildeOwn;
  keyHat = keyTildeOwn + rows;
  queryTilde = keyHat + rows;
  keyHatPanels = queryTilde + rows;
  nSquare = keyHatPanels + (<usize>dk << 5) * 3;
  pSquare = nSquare + SQUARE_STRIDE * CHUNK + 64;
  betas = pSquare + SQUARE_STRIDE * CHUNK + 64;
  pending = betas + CHUNK * 4;
  return pending + keyStride + 64;
}

// @ts-ignore: decorator
@inline
export function loadRow(p: usize, d: i32, extent: i32): v128 {
  return d + 4 <= extent ? v128.load(p + (<usize>d << 2)) : d < extent ? loadSome(p + (<usize>d << 2), extent - d) : splat(0);
}

/** Makes another row the pending factors: every head has its own while the heads take turns. */
export function usePending(row: usize): void {
  pending = row;
}

/** Makes other rows those of e: a gradient keeps those of a segment. */
export function useDecays(channels: usize, heads: usize): void {
  eRows = channels;
  eHeads = heads;
}

/** Fills the last decays of a chunk whose e are there already. */
export function recallDecays(mode: i32, count: i32): void {
  if (mode == 1) fillRow(lastDecays, headDecay(1, count - 1));
  else if (mode == 2) memory.copy(lastDecays, channelDecays(count - 1), keyStride);
}

/** Makes other rows those of K^: a gradient keeps those of a segment. */
export function useKeys(rows: usize): void {
  keyHat = rows;
}

/** Makes other rows those of Q~: a gradient has some for every query head of a group. */
export function useQueries(rows: usize): void {
  queryTilde = rows;
}

/** Makes another matrix N: those of a gradient are kept. */
export function useSquare(n: usize): void {
  nSquare = n;
}

/** Fills a row of factors. */
export function fillRow(row: usize, x: f32): void {
  const s = splat(x);
  for (let d: usize = 0; d < keyStride; d += 16) v128.store(row + d, s);
}

/** e of token i with decays per head, or 1. */
// @ts-ignore: decorator
@inline
export function headDecay(mode: i32, i: i32): f32 {
  return mode == 1 ? load<f32>(eHeads + (<usize>i << 2)) : 1;
}

/** Row of e of token i, with decays per channel. */
// @ts-ignore: decorator
@inline
export function channelDecays(i: i32): usize {
  return eRows + <usize>i * keyStride;
}

/**
 * Decays of the chunk that starts at g and has at most `longest` tokens; multiplies the pending factors by the first token's decay.
 * `mode`: 0 none, 1 per head, 2 per channel. Returns the number of tokens.
 */
export function chunkDecays(mode: i32, g: usize, gStride: usize, longest: i32): i32 {
  if (mode == 0) return longest;
  if (mode == 1) {
    const first = splat(exp1(load<f32>(g)));
    for (let d: usize = 0; d < keyStride; d += 16) v128.store(pending + d, f32x4.mul(v128.load(pending + d), first));
    let e: f32 = 1;
    store<f32>(eHeads, e);
    let i = 1;
    for (; i < longest; i++) {
      g += gStride;
      const next = e * exp1(load<f32>(g));
      if (!(next >= 1e-18 && next <= 1e18)) break;
      e = next;
      store<f32>(eHeads + (<usize>i << 2), e);
    }
    fillRow(lastDecays, e);
    return i;
  }
  const dims = <i32>(keyStride >> 2);
  const low = splat(1e-18);
  const high = splat(1e18);
  for (let d = 0; d < dims; d += 4) {
    const at = <usize>d << 2;
    v128.store(pending + at, f32x4.mul(v128.load(pending + at), expDecay4(loadRow(g, d, keyDim))));
    v128.store(eRows + at, splat(1));
  }
  let i = 1;
  for (; i < longest; i++) {
    g += gStride;
    const row = eRows + <usize>i * keyStride;
    const before = row - keyStride;
    let inside = i32x4.splat(-1);
    let d = 0;
    // two vectors at a time: their exponentials do not wait for each other, and share what is loaded for both
    for (; d + 8 <= keyDim; d += 8) {
      const at = <usize>d << 2;
      const e0 = f32x4.mul(v128.load(before + at), expDecay4(v128.load(g + at)));
      const e1 = f32x4.mul(v128.load(before + at, 16), expDecay4(v128.load(g + at, 16)));
      v128.store(row + at, e0);
      v128.store(row + at, e1, 16);
      inside = v128.and(inside, v128.and(v128.and(f32x4.ge(e0, low), f32x4.le(e0, high)), v128.and(f32x4.ge(e1, low), f32x4.le(e1, high))));
    }
    for (; d < dims; d += 4) {
      const at = <usize>d << 2;
      const e = f32x4.mul(v128.load(before + at), expDecay4(loadRow(g, d, keyDim)));
      v128.store(row + at, e);
      inside = v128.and(inside, v128.and(f32x4.ge(e, low), f32x4.le(e, high)));
    }
    if (!i32x4.all_true(inside)) break;
  }
  memory.copy(lastDecays, eRows + <usize>(i - 1) * keyStride, keyStride);
  return i;
}

/** Q~: rows at x times `factor` and the decays from token `first` on. */
export function prepareQueries(mode: i32, first: i32, count: i32, x: usize, stride: usize, factor: f32): void {
  if (mode == 0) return copyScaled(count, keyDim, x, stride, factor, queryTilde, keyStride);
  if (mode == 1) {
    for (let i = 0; i < count; i++) copyScaled(1, keyDim, x + <usize>i * stride, 0, factor * headDecay(1, first + i), queryTilde + <usize>i * keyStride, 0);
    return;
  }
  const s = splat(factor);
  for (let i = 0; i < count; i++) {
    const e = eRows + <usize>(first + i) * keyStride;
    const row = queryTilde + <usize>i * keyStride;
    for (let d = 0; d < keyPadded; d += 4) {
      const at = <usize>d << 2;
      v128.store(row + at, f32x4.mul(f32x4.mul(loadRow(x, d, keyDim), s), v128.load(e + at)));
    }
    x += stride;
  }
}

/** Fills K~ (where the delta rule needs it) and K^. Without decays they are one. */
export function prepareKeys(mode: i32, delta: bool, count: i32, key: usize, stride: usize): void {
  if (mode == 0) {
    keyTilde = keyHat;
    copyScaled(count, keyDim, key, stride, 1, keyHat, keyStride);
    return;
  }
  keyTilde = keyTildeOwn;
  for (let i = 0; i < count; i++) {
    const row = <usize>i * keyStride;
    if (mode == 1) {
      // all entries of a row have one factor: one division does
      const e = headDecay(1, i);
      if (delta) copyScaled(1, keyDim, key, 0, e, keyTilde + row, 0);
      copyScaled(1, keyDim, key, 0, 1 / e, keyHat + row, 0);
    } else {
      for (let d = 0; d < keyPadded; d += 4) {
        const at = row + (<usize>d << 2);
        const x = loadRow(key, d, keyDim);
        const e = v128.load(eRows + at);
        if (delta) v128.store(keyTilde + at, f32x4.mul(x, e));
        v128.store(keyHat + at, f32x4.div(x, e));
      }
    }
    key += stride;
  }
}

/** Fills the packed transpose of K^. */
export function packKeyHat(count: i32): void {
  packTransposed(keyDim, count, keyHat, keyStride, keyHatPanels);
}

/** Strengths of the chunk's writes, `stride` bytes apart; zeros for the tokens that the last piece lacks. */
export function readBetas(count: i32, beta: usize, stride: usize): void {
  for (let i = 0; i < count; i++) store<f32>(betas + (<usize>i << 2), load<f32>(beta + <usize>i * stride));
  for (let i = count; i % PIECE != 0; i++) store<f32>(betas + (<usize>i << 2), 0);
}

/** Zeroes what lies above the diagonal where products over six rows read: in the 6 x 6 blocks on the diagonal. */
export function clearUpper(count: i32, square: usize): void {
  for (let i = 0; i < count; i++) {
    const row = square + <usize>i * SQUARE_STRIDE;
    const end = (i / 6) * 6 + 6;
    for (let j = i + 1; j < end; j++) store<f32>(row + (<usize>j << 2), 0);
  }
}

/** state [keyDim][valuePadded] or transposed: rows or columns *= pending, and pending becomes e of the last token. */
export function applyPendingTransposed(mode: i32, count: i32, state: usize): void {
  if (mode == 0) return;
  scaleByColumn(valueDim, state, pending, keyStride);
  if (count > 0) takePending(mode);
}

/** Makes e of the last token the pending factors, for a state that has had its own already. */
export function takePending(mode: i32): void {
  if (mode) memory.copy(pending, lastDecays, keyStride);
}
