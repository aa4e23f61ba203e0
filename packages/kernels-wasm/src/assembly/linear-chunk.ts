import { exp1, expDecay4, loadSome, nfma, splat, storeSome } from './lanes';
import { gemmPacked, packRows, packTransposed } from './gemm';
import { stripRows } from './tile';

// one chunk of linear attention for one state head: decays, the two triangular matrices, the update.
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
/** padded row strides in bytes, and numbers of panels */
export let keyStride: usize = 0;
export let valuePanels: i32 = 0;
/** bytes of the state in panels: [valuePanels][keyDim][8] */
export let statePanel: usize = 0;
export let stateBytes: usize = 0;
/** bytes of one panel of chunk rows: [CHUNK][8] */
export const ROWS_PANEL: usize = CHUNK * 32;
/** bytes of a row of the CHUNK x CHUNK matrices, with room for reads beyond the end */
export const SQUARE_STRIDE: usize = CHUNK * 4;

export let eRows: usize = 0; // [CHUNK][keyStride] e_i
export let keyTilde: usize = 0; // [CHUNK][keyStride]
export let keyHat: usize = 0; // [CHUNK][keyStride]: its own rows, or those of keyTilde where there are no decays
let keyHatOwn: usize = 0;
export let queryTilde: usize = 0; // [group][CHUNK][keyStride]
export let keyHatPanels: usize = 0; // [3][keyDim][8]: transposed
export let nSquare: usize = 0; // [CHUNK][CHUNK]
export let pSquare: usize = 0; // [CHUNK][CHUNK]
export let betas: usize = 0; // [CHUNK]
export let pending: usize = 0; // [keyStride] factor of the state's rows before the next chunk

/** Lays the chunk's scratch out from `at`; returns the end. */
export function layoutChunk(at: usize, dk: i32, dv: i32, group: i32): usize {
  keyDim = dk;
  valueDim = dv;
  keyStride = <usize>((dk + 7) & ~7) << 2;
  valuePanels = (dv + 7) >> 3;
  statePanel = <usize>dk << 5;
  stateBytes = statePanel * valuePanels;
  const rows = keyStride * CHUNK + 64;
  eRows = at;
  keyTilde = eRows + rows;
  keyHatOwn = keyTilde + rows;
  keyHat = keyHatOwn;
  queryTilde = keyHatOwn + rows;
  keyHatPanels = queryTilde + rows * group;
  nSquare = keyHatPanels + statePanel * 3;
  pSquare = nSquare + SQUARE_STRIDE * CHUNK + 64;
  betas = pSquare + SQUARE_STRIDE * CHUNK + 64;
  pending = betas + CHUNK * 4;
  return pending + keyStride + 64;
}

/** Bytes from one query head's rows to the next in queryTilde. */
// @ts-ignore: decorator
@inline
export function queryStep(): usize {
  return keyStride * CHUNK + 64;
}

// @ts-ignore: decorator
@inline
function loadRow(p: usize, d: i32, extent: i32): v128 {
  return d + 4 <= extent ? v128.load(p + (<usize>d << 2)) : d < extent ? loadSome(p + (<usize>d << 2), extent - d) : splat(0);
}

/** Makes another row the pending factors: every head has its own while the heads take turns. */
export function usePending(row: usize): void {
  pending = row;
}

/** Sets the pending factors of the state to 1. */
export function resetPending(): void {
  for (let d: usize = 0; d < keyStride; d += 16) v128.store(pending + d, splat(1));
}

/**
 * Decays of the chunk that starts at g and has at most `longest` tokens; multiplies the pending factors by the first token's decay.
 * `mode`: 0 none, 1 per head, 2 per channel. Returns the number of tokens.
 */
export function chunkDecays(mode: i32, g: usize, gStride: usize, longest: i32): i32 {
  if (mode == 0) return longest;
  const dims = <i32>(keyStride >> 2);
  const low = splat(1e-18);
  const high = splat(1e18);
  if (mode == 1) {
    const first = splat(exp1(load<f32>(g)));
    for (let d: usize = 0; d < keyStride; d += 16) {
      v128.store(pending + d, f32x4.mul(v128.load(pending + d), first));
      v128.store(eRows + d, splat(1));
    }
    let e: f32 = 1;
    for (let i = 1; i < longest; i++) {
      g += gStride;
      e *= exp1(load<f32>(g));
      if (!(e >= 1e-18 && e <= 1e18)) return i;
      const row = eRows + <usize>i * keyStride;
      for (let d: usize = 0; d < keyStride; d += 16) v128.store(row + d, splat(e));
    }
    return longest;
  }
  for (let d = 0; d < dims; d += 4) {
    const at = <usize>d << 2;
    v128.store(pending + at, f32x4.mul(v128.load(pending + at), expDecay4(loadRow(g, d, keyDim))));
    v128.store(eRows + at, splat(1));
  }
  for (let i = 1; i < longest; i++) {
    g += gStride;
    const row = eRows + <usize>i * keyStride;
    const before = row - keyStride;
    let inside = i32x4.splat(-1);
    for (let d = 0; d < dims; d += 4) {
      const at = <usize>d << 2;
      const e = f32x4.mul(v128.load(before + at), expDecay4(loadRow(g, d, keyDim)));
      v128.store(row + at, e);
      inside = v128.and(inside, v128.and(f32x4.ge(e, low), f32x4.le(e, high)));
    }
    if (!i32x4.all_true(inside)) return i;
  }
  return longest;
}

/** rows of [count][dim] at x times the decays (exponent +1) and `factor`: Q~ and K~. */
export function scaleRows(mode: i32, count: i32, x: usize, stride: usize, factor: f32, to: usize): void {
  const dims = <i32>(keyStride >> 2);
  const s = splat(factor);
  for (let i = 0; i < count; i++) {
    const row = to + <usize>i * keyStride;
    const e = eRows + <usize>i * keyStride;
    for (let d = 0; d < dims; d += 4) {
      const at = <usize>d << 2;
      let y = f32x4.mul(loadRow(x, d, keyDim), s);
      if (mode) y = f32x4.mul(y, v128.load(e + at));
      v128.store(row + at, y);
    }
    x += stride;
  }
}

/** Fills K~, K^ and the packed transpose of K^. Without decays K~ and K^ are one. */
export function prepareKeys(mode: i32, count: i32, key: usize, keyTokenStride: usize): void {
  const dims = <i32>(keyStride >> 2);
  keyHat = mode ? keyHatOwn : keyTilde;
  if (mode == 0) {
    scaleRows(0, count, key, keyTokenStride, 1, keyTilde);
  } else {
    for (let i = 0; i < count; i++) {
      const row = <usize>i * keyStride;
      // with decays per head, all entries of a row are equal: one division does
      const inverse = f32x4.div(splat(1), v128.load(eRows + row));
      for (let d = 0; d < dims; d += 4) {
        const at = row + (<usize>d << 2);
        const x = loadRow(key, d, keyDim);
        const e = v128.load(eRows + at);
        v128.store(keyTilde + at, f32x4.mul(x, e));
        v128.store(keyHat + at, mode == 1 ? f32x4.mul(x, inverse) : f32x4.div(x, e));
      }
      key += keyTokenStride;
    }
  }
  packTransposed(keyDim, count, keyHat, keyStride, keyHatPanels);
}

/** square[i, j] = rows_i · K^_j for the panels that reach the diagonal; entries above the diagonal are not meaningful. */
export function lowerProduct(count: i32, rows: usize, square: usize): void {
  for (let i = 0; i < count; i += 6) {
    const height = min(6, count - i);
    stripRows(keyDim, rows + <usize>i * keyStride, keyStride, keyHatPanels, statePanel, square + <usize>i * SQUARE_STRIDE, SQUARE_STRIDE, 32, (i + height + 7) & ~7, height, 1, false);
  }
}

/** Zeroes what lies above the diagonal (and on it, when strict) in the columns that products over rows 6n..6n+5 read. */
export function clearUpper(count: i32, square: usize, strict: bool): void {
  for (let i = 0; i < CHUNK; i++) {
    const row = square + <usize>i * SQUARE_STRIDE;
    const from = i < count ? i + (strict ? 0 : 1) : 0;
    for (let j = from; j < CHUNK; j++) store<f32>(row + (<usize>j << 2), 0);
  }
}

/** state rows *= pending, and pending becomes e of the last token. */
export function applyPending(mode: i32, count: i32, state: usize): void {
  if (mode == 0) return;
  for (let panel = 0; panel < valuePanels; panel++) {
    let at = state + <usize>panel * statePanel;
    for (let d = 0; d < keyDim; d++) {
      const factor = v128.load32_splat(pending + (<usize>d << 2));
      v128.store(at, f32x4.mul(v128.load(at), factor));
      v128.store(at, f32x4.mul(v128.load(at, 16), factor), 16);
      at += 32;
    }
  }
  if (count > 0) memory.copy(pending, eRows + <usize>(count - 1) * keyStride, keyStride);
}

/**
 * Solves the delta rule's update in place: on entry R = V - K~ S in panels, on exit U. X (U before beta) goes to `x` when it is not 0.
 */
export function solveUpdate(count: i32, u: usize, x: usize): void {
  for (let i = 0; i < count; i += 6) {
    const height = min(6, count - i);
    const first = <usize>i << 5;
    const n = nSquare + <usize>i * SQUARE_STRIDE;
    if (i > 0) stripRows(i, n, SQUARE_STRIDE, u, ROWS_PANEL, u + first, 32, ROWS_PANEL, valuePanels << 3, height, -1, true);
    for (let panel = 0; panel < valuePanels; panel++) {
      const block = u + <usize>panel * ROWS_PANEL + first;
      for (let r = 0; r < height; r++) {
        const at = block + (<usize>r << 5);
        let y0 = v128.load(at);
        let y1 = v128.load(at, 16);
        const coefficients = n + <usize>r * SQUARE_STRIDE + (<usize>i << 2);
        for (let j = 0; j < r; j++) {
          const c = v128.load32_splat(coefficients + (<usize>j << 2));
          const from = block + (<usize>j << 5);
          y0 = nfma(c, v128.load(from), y0);
          y1 = nfma(c, v128.load(from, 16), y1);
        }
        if (x) {
          const raw = x + <usize>panel * ROWS_PANEL + first + (<usize>r << 5);
          v128.store(raw, y0);
          v128.store(raw, y1, 16);
        }
        const beta = v128.load32_splat(betas + (<usize>(i + r) << 2));
        v128.store(at, f32x4.mul(y0, beta));
        v128.store(at, f32x4.mul(y1, beta), 16);
      }
    }
  }
}

/** Copies rows of [count][valueDim] into panels of ROWS_PANEL bytes, zeros beyond valueDim. */
export function valuesToPanels(count: i32, x: usize, stride: usize, to: usize): void {
  for (let panel = 0; panel < valuePanels; panel++) {
    packRows(count, min(8, valueDim - panel * 8), x + (<usize>panel << 5), stride, to + <usize>panel * ROWS_PANEL);
  }
}

/** out[count, valueDim] += lower(P) U, rows of the output at out + i * stride. */
export function addLowerTimesPanels(count: i32, square: usize, u: usize, out: usize, stride: usize): void {
  for (let i = 0; i < count; i += 6) {
    const height = min(6, count - i);
    stripRows(i + height, square + <usize>i * SQUARE_STRIDE, SQUARE_STRIDE, u, ROWS_PANEL, out + <usize>i * stride, stride, 32, valueDim, height, 1, true);
  }
}

/** Panels of a state from a [keyDim, valueDim] tensor; 0 means zeros. */
export function loadState(from: usize, to: usize): void {
  if (from) packRows(keyDim, valueDim, from, <usize>valueDim << 2, to);
  else memory.fill(to, 0, stateBytes);
}

/** Writes a state in panels as [keyDim, valueDim]. */
export function storeState(from: usize, to: usize): void {
  const stride = <usize>valueDim << 2;
  for (let panel = 0; panel < valuePanels; panel++) {
    const columns = min(8, valueDim - panel * 8);
    let at = from + <usize>panel * statePanel;
    let row = to + (<usize>panel << 5);
    for (let d = 0; d < keyDim; d++) {
      const x0 = v128.load(at);
      const x1 = v128.load(at, 16);
      if (columns >= 4) v128.store(row, x0);
      else storeSome(row, x0, columns);
      if (columns == 8) v128.store(row, x1, 16);
      else if (columns > 4) storeSome(row + 16, x1, columns - 4);
      at += 32;
      row += stride;
    }
  }
}

/** c[m, panels] += alpha * a[m, k] b over all value panels, C in panels of ROWS_PANEL. */
// @ts-ignore: decorator
@inline
export function rowsTimesState(count: i32, rows: usize, state: usize, c: usize, alpha: f32, accumulate: bool): void {
  gemmPacked(count, valuePanels << 3, keyDim, rows, keyStride, state, statePanel, c, 32, ROWS_PANEL, alpha, accumulate);
}

/** Copies `pending` aside or back, and the like: one padded row of decays. */
export function copyRow(from: usize, to: usize): void {
  memory.copy(to, from, keyStride);
}

/** Makes e of the last token the pending factors, for a state that has had its own already. */
export function takePending(mode: i32, count: i32): void {
  if (mode) memory.copy(pending, eRows + <usize>(count - 1) * keyStride, keyStride);
}

/**
 * Transposes panels: from [ceil(columns / 8)][rows][8], `fromPanel` bytes apart, to [ceil(rows / 8)][columns up to a multiple of 8][8], `toPanel` bytes apart.
 * Rows beyond `rows` become zeros.
 */
export function transposePanels(rows: i32, panels: i32, from: usize, fromPanel: usize, to: usize, toPanel: usize): void {
  const zero = splat(0);
  for (let panel = 0; panel < panels; panel++) {
    for (let r = 0; r < rows; r += 8) {
      const source = from + <usize>panel * fromPanel + (<usize>r << 5);
      const target = to + <usize>(r >> 3) * toPanel + (<usize>panel << 8);
      for (let half = 0; half < 2; half++) {
        // four source rows become four target columns
        const at = source + (<usize>half << 7);
        const left = rows - r - half * 4;
        for (let side = 0; side < 2; side++) {
          const p = at + (<usize>side << 4);
          const x0 = left > 0 ? v128.load(p) : zero;
          const x1 = left > 1 ? v128.load(p, 32) : zero;
          const x2 = left > 2 ? v128.load(p, 64) : zero;
          const x3 = left > 3 ? v128.load(p, 96) : zero;
          const low01 = v128.shuffle<f32>(x0, x1, 0, 4, 1, 5);
          const low23 = v128.shuffle<f32>(x2, x3, 0, 4, 1, 5);
          const high01 = v128.shuffle<f32>(x0, x1, 2, 6, 3, 7);
          const high23 = v128.shuffle<f32>(x2, x3, 2, 6, 3, 7);
          const q = target + (<usize>side << 7) + (<usize>half << 4);
          v128.store(q, v128.shuffle<f32>(low01, low23, 0, 1, 4, 5));
          v128.store(q, v128.shuffle<f32>(low01, low23, 2, 3, 6, 7), 32);
          v128.store(q, v128.shuffle<f32>(high01, high23, 0, 1, 4, 5), 64);
          v128.store(q, v128.shuffle<f32>(high01, high23, 2, 3, 6, 7), 96);
        }
      }
    }
  }
}

/** Panels of chunk rows as rows of [count][valuePanels * 8]. */
export function panelsToRows(count: i32, from: usize, to: usize): void {
  const stride = <usize>valuePanels << 5;
  for (let panel = 0; panel < valuePanels; panel++) {
    let at = from + <usize>panel * ROWS_PANEL;
    let row = to + (<usize>panel << 5);
    for (let i = 0; i < count; i++) {
      v128.store(row, v128.load(at));
      v128.store(row, v128.load(at, 16), 16);
      at += 32;
      row += stride;
    }
  }
}

/** Panels of chunk rows to the strided rows of a tensor, valueDim columns. */
export function panelsToTensor(count: i32, from: usize, to: usize, stride: usize): void {
  for (let panel = 0; panel < valuePanels; panel++) {
    const columns = min(8, valueDim - panel * 8);
    let at = from + <usize>panel * ROWS_PANEL;
    let row = to + (<usize>panel << 5);
    for (let i = 0; i < count; i++) {
      const x0 = v128.load(at);
      const x1 = v128.load(at, 16);
      if (columns >= 4) v128.store(row, x0);
      else storeSome(row, x0, columns);
      if (columns == 8) v128.store(row, x1, 16);
      else if (columns > 4) storeSome(row + 16, x1, columns - 4);
      at += 32;
      row += stride;
    }
  }
}
