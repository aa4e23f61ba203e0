import { fma, nfma, splat } from './lanes';

// the delta rule in pieces of six tokens: a chunk's pieces take their turns on the state, and what one reads from it and solves stays in registers.
// Six tokens cost far less among themselves than 24 do, and what they add to the state is as many products however the chunk is cut.

/** tokens of a piece: the rows of a register tile */
export const PIECE: i32 = 6;

/** bytes of a row of a 6 x 6 matrix, with room for two more columns */
export const PIECE_STRIDE: usize = 32;

/**
 * c = the part of a b on and below the diagonal, or only below it when strict, zeros above: a [rows, k] row-major, b [k][8] with up to six columns; c has rows of
 * PIECE_STRIDE.
 */
export function lowerPiece(k: i32, a: usize, lda: usize, b: usize, c: usize, rows: i32, strict: bool): void {
  const end = a + (<usize>k << 2);
  let c0 = splat(0), c1 = splat(0), c2 = splat(0), c3 = splat(0), c4 = splat(0), c5 = splat(0), right4 = splat(0), right5 = splat(0);
  let x: v128, left: v128, right: v128;
  let a1 = a + (rows > 1 ? lda : 0);
  let a2 = a + (rows > 2 ? 2 * lda : 0);
  let a3 = a + (rows > 3 ? 3 * lda : 0);
  let a4 = a + (rows > 4 ? 4 * lda : 0);
  let a5 = a + (rows > 5 ? 5 * lda : 0);
  while (a < end) {
    left = v128.load(b);
    right = v128.load(b, 16);
    c0 = fma(v128.load32_splat(a), left, c0);
    c1 = fma(v128.load32_splat(a1), left, c1);
    c2 = fma(v128.load32_splat(a2), left, c2);
    c3 = fma(v128.load32_splat(a3), left, c3);
    x = v128.load32_splat(a4);
    c4 = fma(x, left, c4);
    right4 = fma(x, right, right4);
    x = v128.load32_splat(a5);
    c5 = fma(x, left, c5);
    right5 = fma(x, right, right5);
    b += 32;
    a += 4;
    a1 += 4;
    a2 += 4;
    a3 += 4;
    a4 += 4;
    a5 += 4;
  }
  // columns below a row's own number, and that one itself unless strict
  const columns = i32x4(0, 1, 2, 3);
  const own = strict ? 0 : 1;
  put(c, v128.and(c0, i32x4.lt_s(columns, i32x4.splat(own))), splat(0));
  if (rows > 1) put(c + PIECE_STRIDE, v128.and(c1, i32x4.lt_s(columns, i32x4.splat(1 + own))), splat(0));
  if (rows > 2) put(c + PIECE_STRIDE * 2, v128.and(c2, i32x4.lt_s(columns, i32x4.splat(2 + own))), splat(0));
  if (rows > 3) put(c + PIECE_STRIDE * 3, v128.and(c3, i32x4.lt_s(columns, i32x4.splat(3 + own))), splat(0));
  if (rows > 4) put(c + PIECE_STRIDE * 4, c4, v128.and(right4, i32x4.lt_s(columns, i32x4.splat(own))));
  if (rows > 5) put(c + PIECE_STRIDE * 5, c5, v128.and(right5, i32x4.lt_s(columns, i32x4.splat(1 + own))));
}

/** inverse = (1 + N diag(beta))^-1, so that X = inverse R solves X_i = R_i - sum_j<i N_ij beta_j X_j; of the `rows` rows of N, what lies below the diagonal is read. */
export function invertPiece(rows: i32, n: usize, betas: usize, inverse: usize): void {
  v128.store(inverse, f32x4(1, 0, 0, 0));
  v128.store(inverse, splat(0), 16);
  const low = v128.load(betas);
  for (let i = 1; i < rows; i++) {
    n += PIECE_STRIDE;
    const to = inverse + <usize>i * PIECE_STRIDE;
    v128.store(to, f32x4.mul(low, v128.load(n)));
    store<f32>(to, load<f32>(betas, 16) * load<f32>(n, 16), 16);
    let left = splat(0);
    let right = splat(0);
    let row = inverse;
    for (let j = 0; j < i; j++) {
      const c = v128.load32_splat(to + (<usize>j << 2));
      left = nfma(c, v128.load(row), left);
      right = nfma(c, v128.load(row, 16), right);
      row += PIECE_STRIDE;
    }
    v128.store(to, left);
    v128.store(to, right, 16);
    store<f32>(to + (<usize>i << 2), 1);
  }
  // what a piece lacks must not be anything but a number
  for (let i = rows; i < PIECE; i++) {
    v128.store(inverse + <usize>i * PIECE_STRIDE, splat(0));
    v128.store(inverse + <usize>i * PIECE_STRIDE, splat(0), 16);
  }
}

/**
 * X = inverse (V - A S) and U = beta X for up to six tokens: A [rows, k], S [k, n], V [rows, n], all row-major, n a multiple of 8.
 * U gets six rows, those beyond `rows` zero where their beta is; X gets `rows`, when x is not 0.
 */
export function readPiece(
  k: i32, a: usize, lda: usize, state: usize, lds: usize, v: usize, ldv: usize, inverse: usize, betas: usize, u: usize, ldu: usize, x: usize, ldx: usize, n: i32,
  rows: i32,
): void {
  const s1: usize = rows > 1 ? 1 : 0;
  const s2: usize = rows > 2 ? 2 : 0;
  const s3: usize = rows > 3 ? 3 : 0;
  const s4: usize = rows > 4 ? 4 : 0;
  const s5: usize = rows > 5 ? 5 : 0;
  const end = a + (<usize>k << 2);
  for (let j = 0; j < n; j += 8) {
    let c00 = splat(0), c01 = splat(0);
    let c10 = splat(0), c11 = splat(0);
    let c20 = splat(0), c21 = splat(0);
    let c30 = splat(0), c31 = splat(0);
    let c40 = splat(0), c41 = splat(0);
    let c50 = splat(0), c51 = splat(0);
    let b0: v128, b1: v128, y: v128;
    let b = state;
    let a0 = a;
    let a1 = a + s1 * lda;
    let a2 = a + s2 * lda;
    let a3 = a + s3 * lda;
    let a4 = a + s4 * lda;
    let a5 = a + s5 * lda;
    while (a0 < end) {
      b0 = v128.load(b, 0);
      b1 = v128.load(b, 16);
      y = v128.load32_splat(a0);
      c00 = fma(y, b0, c00);
      c01 = fma(y, b1, c01);
      y = v128.load32_splat(a1);
      c10 = fma(y, b0, c10);
      c11 = fma(y, b1, c11);
      y = v128.load32_splat(a2);
      c20 = fma(y, b0, c20);
      c21 = fma(y, b1, c21);
      y = v128.load32_splat(a3);
      c30 = fma(y, b0, c30);
      c31 = fma(y, b1, c31);
      y = v128.load32_splat(a4);
      c40 = fma(y, b0, c40);
      c41 = fma(y, b1, c41);
      y = v128.load32_splat(a5);
      c50 = fma(y, b0, c50);
      c51 = fma(y, b1, c51);
      b += lds;
      a0 += 4;
      a1 += 4;
      a2 += 4;
      a3 += 4;
      a4 += 4;
      a5 += 4;
    }
    c00 = f32x4.sub(v128.load(v), c00);
    c01 = f32x4.sub(v128.load(v, 16), c01);
    b = v + s1 * ldv;
    c10 = f32x4.sub(v128.load(b), c10);
    c11 = f32x4.sub(v128.load(b, 16), c11);
    b = v + s2 * ldv;
    c20 = f32x4.sub(v128.load(b), c20);
    c21 = f32x4.sub(v128.load(b, 16), c21);
    b = v + s3 * ldv;
    c30 = f32x4.sub(v128.load(b), c30);
    c31 = f32x4.sub(v128.load(b, 16), c31);
    b = v + s4 * ldv;
    c40 = f32x4.sub(v128.load(b), c40);
    c41 = f32x4.sub(v128.load(b, 16), c41);
    b = v + s5 * ldv;
    c50 = f32x4.sub(v128.load(b), c50);
    c51 = f32x4.sub(v128.load(b, 16), c51);
    // from the last row up, so that none is needed after it has changed
    y = v128.load32_splat(inverse, 160);
    c50 = fma(y, c00, c50);
    c51 = fma(y, c01, c51);
    y = v128.load32_splat(inverse, 164);
    c50 = fma(y, c10, c50);
    c51 = fma(y, c11, c51);
    y = v128.load32_splat(inverse, 168);
    c50 = fma(y, c20, c50);
    c51 = fma(y, c21, c51);
    y = v128.load32_splat(inverse, 172);
    c50 = fma(y, c30, c50);
    c51 = fma(y, c31, c51);
    y = v128.load32_splat(inverse, 176);
    c50 = fma(y, c40, c50);
    c51 = fma(y, c41, c51);
    y = v128.load32_splat(inverse, 128);
    c40 = fma(y, c00, c40);
    c41 = fma(y, c01, c41);
    y = v128.load32_splat(inverse, 132);
    c40 = fma(y, c10, c40);
    c41 = fma(y, c11, c41);
    y = v128.load32_splat(inverse, 136);
    c40 = fma(y, c20, c40);
    c41 = fma(y, c21, c41);
    y = v128.load32_splat(inverse, 140);
    c40 = fma(y, c30, c40);
    c41 = fma(y, c31, c41);
    y = v128.load32_splat(inverse, 96);
    c30 = fma(y, c00, c30);
    c31 = fma(y, c01, c31);
    y = v128.load32_splat(inverse, 100);
    c30 = fma(y, c10, c30);
    c31 = fma(y, c11, c31);
    y = v128.load32_splat(inverse, 104);
    c30 = fma(y, c20, c30);
    c31 = fma(y, c21, c31);
    y = v128.load32_splat(inverse, 64);
    c20 = fma(y, c00, c20);
    c21 = fma(y, c01, c21);
    y = v128.load32_splat(inverse, 68);
    c20 = fma(y, c10, c20);
    c21 = fma(y, c11, c21);
    y = v128.load32_splat(inverse, 32);
    c10 = fma(y, c00, c10);
    c11 = fma(y, c01, c11);
    if (x) {
      b = x;
      put(b, c00, c01);
      if (rows > 1) put((b += ldx), c10, c11);
      if (rows > 2) put((b += ldx), c20, c21);
      if (rows > 3) put((b += ldx), c30, c31);
      if (rows > 4) put((b += ldx), c40, c41);
      if (rows > 5) put((b += ldx), c50, c51);
      x += 32;
    }
    b = u;
    y = v128.load32_splat(betas);
    put(b, f32x4.mul(y, c00), f32x4.mul(y, c01));
    y = v128.load32_splat(betas, 4);
    put((b += ldu), f32x4.mul(y, c10), f32x4.mul(y, c11));
    y = v128.load32_splat(betas, 8);
    put((b += ldu), f32x4.mul(y, c20), f32x4.mul(y, c21));
    y = v128.load32_splat(betas, 12);
    put((b += ldu), f32x4.mul(y, c30), f32x4.mul(y, c31));
    y = v128.load32_splat(betas, 16);
    put((b += ldu), f32x4.mul(y, c40), f32x4.mul(y, c41));
    y = v128.load32_splat(betas, 20);
    put((b += ldu), f32x4.mul(y, c50), f32x4.mul(y, c51));
    state += 32;
    v += 32;
    u += 32;
  }
}

// @ts-ignore: decorator
@inline
function put(to: usize, x0: v128, x1: v128): void {
  v128.store(to, x0);
  v128.store(to, x1, 16);
}

/** c[m, n] += a b: a[m, 6] with PIECE_STRIDE bytes from row to row, b[6, n] in registers; n a multiple of 8. */
export function addPiece(m: i32, n: i32, a: usize, b: usize, ldb: usize, c: usize, ldc: usize): void {
  const end = a + (<usize>m << 5);
  for (let j = 0; j < n; j += 8) {
    let q = b;
    const u00 = v128.load(q), u01 = v128.load(q, 16);
    q += ldb;
    const u10 = v128.load(q), u11 = v128.load(q, 16);
    q += ldb;
    const u20 = v128.load(q), u21 = v128.load(q, 16);
    q += ldb;
    const u30 = v128.load(q), u31 = v128.load(q, 16);
    q += ldb;
    const u40 = v128.load(q), u41 = v128.load(q, 16);
    q += ldb;
    const u50 = v128.load(q), u51 = v128.load(q, 16);
    let p = c;
    for (let from = a; from < end; from += 32) {
      let y0 = v128.load(p);
      let y1 = v128.load(p, 16);
      let x = v128.load32_splat(from);
      y0 = fma(x, u00, y0);
      y1 = fma(x, u01, y1);
      x = v128.load32_splat(from, 4);
      y0 = fma(x, u10, y0);
      y1 = fma(x, u11, y1);
      x = v128.load32_splat(from, 8);
      y0 = fma(x, u20, y0);
      y1 = fma(x, u21, y1);
      x = v128.load32_splat(from, 12);
      y0 = fma(x, u30, y0);
      y1 = fma(x, u31, y1);
      x = v128.load32_splat(from, 16);
      y0 = fma(x, u40, y0);
      y1 = fma(x, u41, y1);
      x = v128.load32_splat(from, 20);
      y0 = fma(x, u50, y0);
      y1 = fma(x, u51, y1);
      v128.store(p, y0);
      v128.store(p, y1, 16);
      p += ldc;
    }
    b += 32;
    c += 32;
  }
}
