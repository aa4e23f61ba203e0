import { fma, laneSum, nfma, splat, storeSome } from './lanes';
import { stripColumns } from './tile';
import { SQUARE_STRIDE, betas, channelDecays, headDecay, keyDim, keyHat, keyPadded, keyStride, keyTilde, nSquare, queryTilde, valuePadded, valueStride } from './linear-chunk';
import { along, dBetas, dKeyHat, dKeyTilde, dLog, dQuery, nextAlong } from './linear-backward-scratch';

// the solver and the writers of the gradient of linear attention: each on one chunk of one head

/** Solves for the gradient of R in place of that of U, and fills dBetas with four parts each of the gradient of beta. */
export function solveBackward(count: i32, du: usize, x: usize): void {
  const last = ((count - 1) / 6) * 6;
  for (let j = last; j >= 0; j -= 6) {
    const height = min(6, count - j);
    const first = du + <usize>j * valueStride;
    const below = j + height;
    if (below < count) {
      const n = nSquare + <usize>below * SQUARE_STRIDE + (<usize>j << 2);
      stripColumns(count - below, n, SQUARE_STRIDE, du + <usize>below * valueStride, valueStride, 32, first, valueStride, 32, valuePadded, height, -1, true);
    }
    for (let r = height - 1; r >= 0; r--) {
      const row = first + <usize>r * valueStride;
      const raw = x + <usize>(j + r) * valueStride;
      const beta = v128.load32_splat(betas + (<usize>(j + r) << 2));
      const coefficients = nSquare + <usize>(j + r + 1) * SQUARE_STRIDE + (<usize>(j + r) << 2);
      let sum = splat(0);
      for (let column: usize = 0; column < valueStride; column += 32) {
        const at = row + column;
        let y0 = v128.load(at);
        let y1 = v128.load(at, 16);
        let from = at;
        let p = coefficients;
        for (let s = r + 1; s < height; s++) {
          const c = v128.load32_splat(p);
          from += valueStride;
          y0 = nfma(c, v128.load(from), y0);
          y1 = nfma(c, v128.load(from, 16), y1);
          p += SQUARE_STRIDE;
        }
        sum = fma(y0, v128.load(raw + column), sum);
        sum = fma(y1, v128.load(raw + column, 16), sum);
        v128.store(at, f32x4.mul(y0, beta));
        v128.store(at, f32x4.mul(y1, beta), 16);
      }
      v128.store(dBetas + (<usize>(j + r) << 4), sum);
    }
  }
}

/** Gradient of beta to its tensor. */
export function writeBetaGradient(count: i32, to: usize, stride: usize): void {
  for (let i = 0; i < count; i++) store<f32>(to + <usize>i * stride, laneSum(v128.load(dBetas + (<usize>i << 4))));
}

/** Four floats of a row of keyDim to a tensor. */
// @ts-ignore: decorator
@inline
function storeKey(to: usize, d: i32, x: v128): void {
  if (d + 4 <= keyDim) v128.store(to + (<usize>d << 2), x);
  else if (d < keyDim) storeSome(to + (<usize>d << 2), x, keyDim - d);
}

/** dq = scale e dQ~ to the tensor; dLog gains (or, with `first`, becomes) Q~ dQ~. */
export function writeQueryGradient(mode: i32, first: bool, count: i32, scale: f32, to: usize, stride: usize): void {
  for (let i = 0; i < count; i++) {
    const row = <usize>i * keyStride;
    const gradient = dQuery + row;
    if (mode == 2) {
      const e = channelDecays(i);
      const s = splat(scale);
      for (let d = 0; d < keyPadded; d += 4) {
        const at = <usize>d << 2;
        const y = v128.load(gradient + at);
        const product = f32x4.mul(v128.load(queryTilde + row + at), y);
        v128.store(dLog + row + at, first ? product : f32x4.add(v128.load(dLog + row + at), product));
        storeKey(to, d, f32x4.mul(f32x4.mul(s, y), v128.load(e + at)));
      }
    } else {
      const s = splat(scale * headDecay(mode, i));
      let sum = splat(0);
      for (let d = 0; d < keyPadded; d += 4) {
        const at = <usize>d << 2;
        const y = v128.load(gradient + at);
        if (mode) sum = fma(v128.load(queryTilde + row + at), y, sum);
        storeKey(to, d, f32x4.mul(s, y));
      }
      if (mode) {
        const log = dLog + (<usize>i << 2);
        store<f32>(log, first ? laneSum(sum) : load<f32>(log) + laneSum(sum));
      }
    }
    to += stride;
  }
}

/** dk = e dK~ + dK^ / e to the tensor; dLog gains K~ dK~ - K^ dK^. */
export function writeKeyGradient(mode: i32, delta: bool, count: i32, to: usize, stride: usize): void {
  for (let i = 0; i < count; i++) {
    const row = <usize>i * keyStride;
    if (mode == 2) {
      const e = channelDecays(i);
      for (let d = 0; d < keyPadded; d += 4) {
        const column = <usize>d << 2;
        const at = row + column;
        const hat = v128.load(dKeyHat + at);
        const factor = v128.load(e + column);
        let log = nfma(v128.load(keyHat + at), hat, v128.load(dLog + at));
        let y = f32x4.div(hat, factor);
        if (delta) {
          const tilde = v128.load(dKeyTilde + at);
          log = fma(v128.load(keyTilde + at), tilde, log);
          y = fma(tilde, factor, y);
        }
        v128.store(dLog + at, log);
        storeKey(to, d, y);
      }
    } else {
      const e = headDecay(mode, i);
      const factor = splat(e);
      const inverse = splat(1 / e);
      let sum = splat(0);
      for (let d = 0; d < keyPadded; d += 4) {
        const at = row + (<usize>d << 2);
        const hat = v128.load(dKeyHat + at);
        let y = hat;
        if (mode) {
          y = f32x4.mul(y, inverse);
          sum = nfma(v128.load(keyHat + at), hat, sum);
        }
        if (delta) {
          const tilde = v128.load(dKeyTilde + at);
          if (mode) sum = fma(v128.load(keyTilde + at), tilde, sum);
          y = fma(tilde, factor, y);
        }
        storeKey(to, d, y);
      }
      const log = dLog + (<usize>i << 2);
      if (mode) store<f32>(log, load<f32>(log) + laneSum(sum));
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
      past += <f64>load<f32>(dLog + (<usize>i << 2));
      store<f32>(to, <f32>past);
      to -= stride;
    }
    store<f32>(to, <f32>start);
    return;
  }
  for (let i = count - 1; i > 0; i--) {
    const row = dLog + <usize>i * keyStride;
    for (let d = 0; d < keyPadded; d += 4) {
      const at = <usize>d << 2;
      const sum = f32x4.add(v128.load(nextAlong + at), v128.load(row + at));
      v128.store(nextAlong + at, sum);
      storeKey(to, d, sum);
    }
    to -= stride;
  }
  for (let d = 0; d < keyPadded; d += 4) storeKey(to, d, v128.load(along + (<usize>d << 2)));
}
