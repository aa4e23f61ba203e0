import { fma, splat } from './lanes';
import { strip, stripColumns, stripFour } from './tile';

// products of row-major matrices whose widths are padded to whole vectors of eight, so that no tile hangs over an edge on the right

/**
 * c[rows, n] = alpha * (a[rows, k] b[k, n] + p[rows, depth] y[depth, n]) for up to six rows, n a multiple of 8: all matrices row-major.
 * One pass over C instead of two.
 */
export function pairStrip(
  k: i32, a: usize, lda: usize, start: usize, ldb: usize, depth: i32, p: usize, ldp: usize, y: usize, ldy: usize, c: usize, ldc: usize, n: i32, rows: i32,
  alpha: f32,
): void {
  const s1 = rows > 1 ? 1 : 0;
  const s2 = rows > 2 ? s1 + 1 : 0;
  const s3 = rows > 3 ? s2 + 1 : 0;
  const s4 = rows > 4 ? s3 + 1 : 0;
  const s5 = rows > 5 ? s4 + 1 : 0;
  for (let j = 0; j < n; j += 8) {
    let c00 = splat(0), c01 = splat(0);
    let c10 = splat(0), c11 = splat(0);
    let c20 = splat(0), c21 = splat(0);
    let c30 = splat(0), c31 = splat(0);
    let c40 = splat(0), c41 = splat(0);
    let c50 = splat(0), c51 = splat(0);
    let b0: v128, b1: v128, x: v128;
    let b = start;
    let a0 = a;
    let a1 = a + s1 * lda;
    let a2 = a + s2 * lda;
    let a3 = a + s3 * lda;
    let a4 = a + s4 * lda;
    let a5 = a + s5 * lda;
    let end = a + (<usize>k << 2);
    while (a0 < end) {
      b0 = v128.load(b, 0);
      b1 = v128.load(b, 16);
      x = v128.load32_splat(a0);
      c00 = fma(x, b0, c00);
      c01 = fma(x, b1, c01);
      x = v128.load32_splat(a1);
      c10 = fma(x, b0, c10);
      c11 = fma(x, b1, c11);
      x = v128.load32_splat(a2);
      c20 = fma(x, b0, c20);
      c21 = fma(x, b1, c21);
      x = v128.load32_splat(a3);
      c30 = fma(x, b0, c30);
      c31 = fma(x, b1, c31);
      x = v128.load32_splat(a4);
      c40 = fma(x, b0, c40);
      c41 = fma(x, b1, c41);
      x = v128.load32_splat(a5);
      c50 = fma(x, b0, c50);
      c51 = fma(x, b1, c51);
      b += ldb;
      a0 += 4;
      a1 += 4;
      a2 += 4;
      a3 += 4;
      a4 += 4;
      a5 += 4;
    }
    b = y;
    a0 = p;
    a1 = p + s1 * ldp;
    a2 = p + s2 * ldp;
    a3 = p + s3 * ldp;
    a4 = p + s4 * ldp;
    a5 = p + s5 * ldp;
    end = p + (<usize>depth << 2);
    while (a0 < end) {
      b0 = v128.load(b, 0);
      b1 = v128.load(b, 16);
      x = v128.load32_splat(a0);
      c00 = fma(x, b0, c00);
      c01 = fma(x, b1, c01);
      x = v128.load32_splat(a1);
      c10 = fma(x, b0, c10);
      c11 = fma(x, b1, c11);
      x = v128.load32_splat(a2);
      c20 = fma(x, b0, c20);
      c21 = fma(x, b1, c21);
      x = v128.load32_splat(a3);
      c30 = fma(x, b0, c30);
      c31 = fma(x, b1, c31);
      x = v128.load32_splat(a4);
      c40 = fma(x, b0, c40);
      c41 = fma(x, b1, c41);
      x = v128.load32_splat(a5);
      c50 = fma(x, b0, c50);
      c51 = fma(x, b1, c51);
      b += ldy;
      a0 += 4;
      a1 += 4;
      a2 += 4;
      a3 += 4;
      a4 += 4;
      a5 += 4;
    }
    const scale = splat(alpha);
    let to = c;
    put(to, c00, c01, scale);
    if (rows == 6) {
      put((to += ldc), c10, c11, scale);
      put((to += ldc), c20, c21, scale);
      put((to += ldc), c30, c31, scale);
      put((to += ldc), c40, c41, scale);
      put((to += ldc), c50, c51, scale);
    } else {
      if (rows > 1) put((to += ldc), c10, c11, scale);
      if (rows > 2) put((to += ldc), c20, c21, scale);
      if (rows > 3) put((to += ldc), c30, c31, scale);
      if (rows > 4) put((to += ldc), c40, c41, scale);
    }
    c += 32;
    start += 32;
    y += 32;
  }
}

// @ts-ignore: decorator
@inline
function put(c: usize, x0: v128, x1: v128, alpha: v128): void {
  v128.store(c, f32x4.mul(x0, alpha));
  v128.store(c, f32x4.mul(x1, alpha), 16);
}

/** c_i = alpha * (a_i b + sum over j <= i of p_ij y_j): rows times a matrix, and a lower triangle times rows; n a multiple of 8. */
export function rowsAndLowerTimes(
  count: i32, n: i32, k: i32, a: usize, lda: usize, b: usize, ldb: usize, square: usize, lds: usize, y: usize, ldy: usize, c: usize, ldc: usize, alpha: f32,
): void {
  for (let i = 0; i < count; i += 6) {
    const height = min(6, count - i);
    const at = <usize>i;
    pairStrip(k, a + at * lda, lda, b, ldb, i + height, square + at * lds, lds, y, ldy, c + at * ldc, ldc, n, height, alpha);
  }
}

/** c[m, n] += alpha * a^T b with a[k, m], b[k, n]; n a multiple of 8. Up to five floats beyond the end of A's rows are read. */
export function addColumnsTimesRows(m: i32, n: i32, k: i32, a: usize, lda: usize, b: usize, ldb: usize, c: usize, ldc: usize, alpha: f32): void {
  for (let i = 0; i < m; i += 6) {
    stripColumns(k, a + (<usize>i << 2), lda, b, ldb, 32, c + <usize>i * ldc, ldc, 32, n, min(6, m - i), alpha, true);
  }
}

/** c[m, n] = alpha * a[m, k] b[k, n] (+ c): rows of B `ldb` bytes apart and its vectors of eight columns `panel` bytes (32 where it is row-major). */
export function rowsTimes(
  m: i32, n: i32, k: i32, a: usize, lda: usize, b: usize, ldb: usize, panel: usize, c: usize, ldc: usize, alpha: f32, accumulate: bool,
): void {
  let i = 0;
  for (; i + 6 <= m; i += 6) {
    strip(k, a, lda, b, ldb, panel, c, ldc, 32, n, 6, alpha, accumulate);
    a += lda * 6;
    c += ldc * 6;
  }
  if (m - i > 4) strip(k, a, lda, b, ldb, panel, c, ldc, 32, n, m - i, alpha, accumulate);
  else if (m > i) stripFour(k, a, lda, b, ldb, panel, c, ldc, 32, n, m - i, alpha, accumulate);
}

/** square[i, j] = alpha * rows_i · b_j for the vectors that reach the diagonal: B transposed in panels of [k][8]; entries above the diagonal mean nothing. */
export function lowerProduct(count: i32, k: i32, rows: usize, stride: usize, b: usize, square: usize, ldc: usize, alpha: f32): void {
  const panel = <usize>k << 5;
  for (let i = 0; i < count; i += 6) {
    const height = min(6, count - i);
    strip(k, rows + <usize>i * stride, stride, b, 32, panel, square + <usize>i * ldc, ldc, 32, (i + height + 7) & ~7, height, alpha, false);
  }
}
