import { fma, laneSum, nfma, splat, storeSome } from './lanes';
import { PIECE_STRIDE } from './linear-pieces';
import { channelDecays, headDecay, keyDim, keyPadded, keyStride, loadRow, nSquare, valueStride } from './linear-chunk';
import { dBetas, dKeyTilde, dQuery } from './linear-backward-scratch';

// the solver and the writers of the gradient of linear attention, each on a piece of one head, and of the decays of a segment

/**
 * Solves for the gradient of R from that of U, one piece; x holds the rows before beta. Fills dBetas with four parts each of the gradient of beta.
 */
export function solveBackward(rows: i32, du: usize, x: usize, strengths: usize, to: usize): void {
  for (let r = rows - 1; r >= 0; r--) {
    const row = <usize>r * valueStride;
    const beta = v128.load32_splat(strengths + (<usize>r << 2));
    const coefficients = nSquare + <usize>(r + 1) * PIECE_STRIDE + (<usize>r << 2);
    let sum = splat(0);
    for (let column: usize = 0; column < valueStride; column += 32) {
      const at = row + column;
      let y0 = v128.load(du + at);
      let y1 = v128.load(du + at, 16);
      let from = to + at;
      let p = coefficients;
      for (let s = r + 1; s < rows; s++) {
        const c = v128.load32_splat(p);
        from += valueStride;
        y0 = nfma(c, v128.load(from), y0);
        y1 = nfma(c, v128.load(from, 16), y1);
        p += PIECE_STRIDE;
      }
      sum = fma(y0, v128.load(x + at), sum);
      sum = fma(y1, v128.load(x + at, 16), sum);
      v128.store(to + at, f32x4.mul(y0, beta));
      v128.store(to + at, f32x4.mul(y1, beta), 16);
    }
    v128.store(dBetas + (<usize>r << 4), sum);
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

/** dq = scale e dQ~ to the tensor, for the piece from token i of the chunk; the rows at `log` gain (or, with `first`, become) q dq. */
export function writeQueryGradient(mode: i32, first: bool, i: i32, rows: i32, scale: f32, log: usize, query: usize, to: usize, stride: usize): void {
  for (let r = 0; r < rows; r++) {
    const gradient = dQuery + <usize>r * keyStride;
    if (mode == 2) {
      const e = channelDecays(i + r);
      const s = splat(scale);
      for (let d = 0; d < keyPadded; d += 4) {
        const at = <usize>d << 2;
        const y = f32x4.mul(f32x4.mul(s, v128.load(gradient + at)), v128.load(e + at));
        const product = f32x4.mul(loadRow(query, d, keyDim), y);
        v128.store(log + at, first ? product : f32x4.add(v128.load(log + at), product));
        storeKey(to, d, y);
      }
      log += keyStride;
    } else {
      const s = splat(scale * headDecay(mode, i + r));
      let sum = splat(0);
      for (let d = 0; d < keyPadded; d += 4) {
        const y = f32x4.mul(s, v128.load(gradient + (<usize>d << 2)));
        if (mode) sum = fma(loadRow(query, d, keyDim), y, sum);
        storeKey(to, d, y);
      }
      if (mode) store<f32>(log, first ? laneSum(sum) : load<f32>(log) + laneSum(sum));
      log += 4;
    }
    query += stride;
    to += stride;
  }
}

/** dk = e dK~ + dK^ / e to the tensor, for the piece from token i of the chunk; dK^ at `hats`; the rows at `log` gain k (e dK~ - dK^ / e). */
export function writeKeyGradient(mode: i32, delta: bool, i: i32, rows: i32, hats: usize, log: usize, key: usize, to: usize, stride: usize): void {
  for (let r = 0; r < rows; r++) {
    const tildes = dKeyTilde + <usize>r * keyStride;
    if (mode == 2) {
      const e = channelDecays(i + r);
      for (let d = 0; d < keyPadded; d += 4) {
        const at = <usize>d << 2;
        const factor = v128.load(e + at);
        const hat = f32x4.div(v128.load(hats + at), factor);
        const tilde = delta ? f32x4.mul(v128.load(tildes + at), factor) : splat(0);
        v128.store(log + at, fma(loadRow(key, d, keyDim), f32x4.sub(tilde, hat), v128.load(log + at)));
        storeKey(to, d, f32x4.add(tilde, hat));
      }
      log += keyStride;
    } else {
      const e = headDecay(mode, i + r);
      const factor = splat(e);
      const inverse = splat(1 / e);
      let sum = splat(0);
      for (let d = 0; d < keyPadded; d += 4) {
        const at = <usize>d << 2;
        const hat = f32x4.mul(v128.load(hats + at), inverse);
        const tilde = delta ? f32x4.mul(v128.load(tildes + at), factor) : splat(0);
        if (mode) sum = fma(loadRow(key, d, keyDim), f32x4.sub(tilde, hat), sum);
        storeKey(to, d, f32x4.add(tilde, hat));
      }
      if (mode) store<f32>(log, load<f32>(log) + laneSum(sum));
      log += 4;
    }
    hats += keyStride;
    key += stride;
    to += stride;
  }
}

/** log of a decay that lets nothing through: 1e-8 of what was there is less than the rounding of the sums */
const NOTHING_LEFT: f32 = -18.42;

/**
 * Gradient of the log decays of a segment: sums of dLogs from its end, and what flows through the states at both ends, `end` (lost) and `start`.
 * Where a decay leaves nothing, the sum is rounding and starts anew.
 */
export function writeDecayGradient(mode: i32, count: i32, logs: usize, end: usize, start: usize, decay: usize, to: usize, stride: usize): void {
  to += stride * (count - 1);
  decay += stride * (count - 1);
  if (mode == 1) {
    // one number per token: keep the running sum in double precision
    let past: f64 = 0;
    let before: f64 = 0;
    for (let d = 0; d < keyDim; d++) {
      past += <f64>load<f32>(end + (<usize>d << 2));
      before += <f64>load<f32>(start + (<usize>d << 2));
    }
    for (let i = count - 1; i > 0; i--) {
      past = load<f32>(decay) < NOTHING_LEFT ? 0 : past + <f64>load<f32>(logs + (<usize>i << 2));
      store<f32>(to, <f32>past);
      to -= stride;
      decay -= stride;
    }
    store<f32>(to, <f32>before);
    return;
  }
  const least = splat(NOTHING_LEFT);
  for (let i = count - 1; i > 0; i--) {
    const row = logs + <usize>i * keyStride;
    for (let d = 0; d < keyPadded; d += 4) {
      const at = <usize>d << 2;
      const sum = v128.andnot(f32x4.add(v128.load(end + at), v128.load(row + at)), f32x4.lt(loadRow(decay, d, keyDim), least));
      v128.store(end + at, sum);
      storeKey(to, d, sum);
    }
    to -= stride;
    decay -= stride;
  }
  for (let d = 0; d < keyPadded; d += 4) storeKey(to, d, v128.load(start + (<usize>d << 2)));
}
