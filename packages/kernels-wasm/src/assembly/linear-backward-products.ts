import { fma, laneSum, nfma, splat, storeSome } from './lanes';
import { stripColumns, stripRows } from './tile';
import { ROWS_PANEL, SQUARE_STRIDE, betas, eRows, keyDim, keyStride, nSquare, statePanel, valueDim, valuePanels } from './linear-chunk';
import { along, dBetas, dKeyHat, dKeyTilde, dLog, dQuery, nextAlong, transposedPanel, updateT } from './linear-backward-scratch';

// products, the solver and the writers of the gradient of linear attention: each on one chunk of one head

/** to[d] = sum over v of a[d, v] b[d, v], both states in panels. */
export function rowProducts(a: usize, b: usize, to: usize): void {
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
  for (let j = last; j >= 0; j -= 6) {
    const height = min(6, count - j);
    const first = <usize>j << 5;
    const below = j + height;
    if (below < count) {
      const n = nSquare + <usize>below * SQUARE_STRIDE + (<usize>j << 2);
      stripColumns(count - below, n, SQUARE_STRIDE, du + (<usize>below << 5), ROWS_PANEL, du + first, 32, ROWS_PANEL, valuePanels << 3, height, -1, true);
    }
    for (let panel = 0; panel < valuePanels; panel++) {
      const block = du + <usize>panel * ROWS_PANEL + first;
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
export function productRows(count: i32, x: usize, y: usize, to: usize, sign: f32): void {
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
export function writeQueryGradient(mode: i32, count: i32, scale: f32, to: usize, stride: usize): void {
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
export function writeKeyGradient(mode: i32, delta: bool, count: i32, to: usize, stride: usize): void {
  for (let i = 0; i < count; i++) {
    const row = <usize>i * keyStride;
    const inverse = mode == 1 ? f32x4.div(splat(1), v128.load(eRows + row)) : splat(1);
    for (let d = 0; d < keyDim; d += 4) {
      const at = row + (<usize>d << 2);
      let y = v128.load(dKeyHat + at);
      if (mode == 1) y = f32x4.mul(y, inverse);
      else if (mode) y = f32x4.div(y, v128.load(eRows + at));
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
export function writeDecayGradient(mode: i32, count: i32, to: usize, stride: usize): void {
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
export function scaleState(target: usize, a: usize, b: usize): void {
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
