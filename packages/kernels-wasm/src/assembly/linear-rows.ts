import { loadSome, splat, storeSome } from './lanes';

// passes over the rows of one chunk: rows padded to whole vectors of eight, zeros beyond `dim`

/** to_i = factor * x_i, rows of `dim` floats. */
export function copyScaled(count: i32, dim: i32, x: usize, stride: usize, factor: f32, to: usize, toStride: usize): void {
  const s = splat(factor);
  for (let i = 0; i < count; i++) {
    let p = x;
    let q = to;
    let left = dim;
    for (; left >= 8; left -= 8) {
      v128.store(q, f32x4.mul(s, v128.load(p)));
      v128.store(q, f32x4.mul(s, v128.load(p, 16)), 16);
      p += 32;
      q += 32;
    }
    if (left > 0) {
      v128.store(q, f32x4.mul(s, left >= 4 ? v128.load(p) : loadSome(p, left)));
      v128.store(q, left > 4 ? f32x4.mul(s, loadSome(p + 16, left - 4)) : splat(0), 16);
    }
    x += stride;
    to += toStride;
  }
}

/** Copies rows to the rows of a tensor, `dim` floats of each. */
export function writeRows(count: i32, dim: i32, x: usize, stride: usize, to: usize, toStride: usize): void {
  for (let i = 0; i < count; i++) {
    let p = x;
    let q = to;
    let left = dim;
    for (; left >= 8; left -= 8) {
      v128.store(q, v128.load(p));
      v128.store(q, v128.load(p, 16), 16);
      p += 32;
      q += 32;
    }
    if (left >= 4) {
      v128.store(q, v128.load(p));
      p += 16;
      q += 16;
      left -= 4;
    }
    if (left > 0) storeSome(q, v128.load(p), left);
    x += stride;
    to += toStride;
  }
}

/** to_i = factors_i * x_i, one factor per row; whole vectors of eight. */
export function scaleByRow(count: i32, x: usize, factors: usize, to: usize, stride: usize): void {
  for (let i = 0; i < count; i++) {
    const s = v128.load32_splat(factors);
    const end = x + stride;
    while (x < end) {
      v128.store(to, f32x4.mul(s, v128.load(x)));
      v128.store(to, f32x4.mul(s, v128.load(x, 16)), 16);
      x += 32;
      to += 32;
    }
    factors += 4;
  }
}

/** x_i *= factors, the same row of factors for all; whole vectors of eight. */
export function scaleByColumn(count: i32, x: usize, factors: usize, stride: usize): void {
  for (let i = 0; i < count; i++) {
    const end = x + stride;
    let f = factors;
    while (x < end) {
      v128.store(x, f32x4.mul(v128.load(f), v128.load(x)));
      v128.store(x, f32x4.mul(v128.load(f, 16), v128.load(x, 16)), 16);
      x += 32;
      f += 32;
    }
  }
}

/** to = sums over the rows of a * b, column by column; whole vectors of eight. */
export function sumProducts(count: i32, a: usize, b: usize, stride: usize, to: usize): void {
  const size = stride * count;
  for (let at: usize = 0; at < stride; at += 32) {
    let p = a + at;
    let q = b + at;
    const end = p + size;
    let s0 = splat(0);
    let s1 = splat(0);
    while (p < end) {
      s0 = f32x4.add(s0, f32x4.mul(v128.load(p), v128.load(q)));
      s1 = f32x4.add(s1, f32x4.mul(v128.load(p, 16), v128.load(q, 16)));
      p += stride;
      q += stride;
    }
    v128.store(to + at, s0);
    v128.store(to + at, s1, 16);
  }
}

/** to[i, d] = from[d, i] for i < count, at most six, and d < width, a multiple of 4: rows of `from` hold eight floats. */
export function transposePiece(count: i32, width: i32, from: usize, to: usize, toRow: usize): void {
  for (let d = 0; d < width; d += 4) {
    for (let i = 0; i < count; i += 4) {
      const p = from + (<usize>i << 2);
      const q = to + <usize>i * toRow;
      const x0 = v128.load(p);
      const x1 = v128.load(p, 32);
      const x2 = v128.load(p, 64);
      const x3 = v128.load(p, 96);
      const low01 = v128.shuffle<f32>(x0, x1, 0, 4, 1, 5);
      const low23 = v128.shuffle<f32>(x2, x3, 0, 4, 1, 5);
      const high01 = v128.shuffle<f32>(x0, x1, 2, 6, 3, 7);
      const high23 = v128.shuffle<f32>(x2, x3, 2, 6, 3, 7);
      v128.store(q, v128.shuffle<f32>(low01, low23, 0, 1, 4, 5));
      if (i + 1 < count) v128.store(q + toRow, v128.shuffle<f32>(low01, low23, 2, 3, 6, 7));
      if (i + 2 < count) v128.store(q + 2 * toRow, v128.shuffle<f32>(high01, high23, 0, 1, 4, 5));
      if (i + 3 < count) v128.store(q + 3 * toRow, v128.shuffle<f32>(high01, high23, 2, 3, 6, 7));
    }
    from += 128;
    to += 16;
  }
}
