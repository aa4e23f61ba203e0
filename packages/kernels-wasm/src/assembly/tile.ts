import { fma, setConstants, splat } from './lanes';

// register tiles of the matrix product: twelve accumulators of four lanes, two vectors of B and one broadcast of A in flight.
// the loops over k take one step at a time: in an unrolled body the optimiser nests the steps of each accumulator, and all operands spill

/** 8 floats per row where a tile that hangs over the edge is written first. */
let edge: usize = 0;

/** Starts the kernels: 256 bytes of their own for tiles at the edge, and the constants. */
export function setEdge(p: usize): void {
  edge = p;
  setConstants();
}

// @ts-ignore: decorator
@inline
function put(c: usize, x0: v128, x1: v128, alpha: v128, accumulate: bool): void {
  if (accumulate) {
    v128.store(c, fma(x0, alpha, v128.load(c)));
    v128.store(c, fma(x1, alpha, v128.load(c, 16)), 16);
  } else {
    v128.store(c, f32x4.mul(x0, alpha));
    v128.store(c, f32x4.mul(x1, alpha), 16);
  }
}

function putEdge(rows: i32, columns: i32, c: usize, ldc: usize, accumulate: bool): void {
  for (let i = 0; i < rows; i++) {
    const from = edge + <usize>i * 32;
    const to = c + <usize>i * ldc;
    if (columns == 8) {
      put(to, v128.load(from), v128.load(from, 16), splat(1), accumulate);
      continue;
    }
    for (let j = 0; j < columns; j++) {
      let x = load<f32>(from + (<usize>j << 2));
      if (accumulate) x += load<f32>(to + (<usize>j << 2));
      store<f32>(to + (<usize>j << 2), x);
    }
  }
}

/**
 * c[6, n] = alpha * a[6, k] b[k, n] (+ c): rows of A are contiguous over k, row i at a + i * lda; B in panels of 8 columns, `panel` bytes apart;
 * columns 8j of C at c + j * cstep. Only the first `rows` are written; rows of A beyond them are not read. Strides in bytes.
 */
export function stripRows(k: i32, a: usize, lda: usize, b: usize, panel: usize, c: usize, ldc: usize, cstep: usize, n: i32, rows: i32, alpha: f32, accumulate: bool): void {
  strip(k, a, lda, b, 32, panel, c, ldc, cstep, n, rows, alpha, accumulate);
}

/** stripRows with the rows of B `bstep` bytes apart: 32 inside a panel, or those of a row-major matrix that was not packed. Eight columns are read even when fewer are left. */
export function strip(k: i32, a: usize, lda: usize, b: usize, bstep: usize, panel: usize, c: usize, ldc: usize, cstep: usize, n: i32, rows: i32, alpha: f32, accumulate: bool): void {
  const s1 = rows > 1 ? lda : 0;
  const s2 = rows > 2 ? s1 + lda : 0;
  const s3 = rows > 3 ? s2 + lda : 0;
  const s4 = rows > 4 ? s3 + lda : 0;
  const s5 = rows > 5 ? s4 + lda : 0;
  const end = a + (<usize>k << 2);
  const start = b;
  for (let j = 0; j < n; j += 8) {
  const columns = min(8, n - j);
  b = start + <usize>(j >> 3) * panel;
  let c00 = splat(0), c01 = splat(0);
  let c10 = splat(0), c11 = splat(0);
  let c20 = splat(0), c21 = splat(0);
  let c30 = splat(0), c31 = splat(0);
  let c40 = splat(0), c41 = splat(0);
  let c50 = splat(0), c51 = splat(0);
  let b0: v128, b1: v128, x: v128;
  let a0 = a;
  let a1 = a + s1;
  let a2 = a + s2;
  let a3 = a + s3;
  let a4 = a + s4;
  let a5 = a + s5;
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
    b += bstep;
    a0 += 4;
    a1 += 4;
    a2 += 4;
    a3 += 4;
    a4 += 4;
    a5 += 4;
  }

  const scale = splat(alpha);
  if (rows == 6 && columns == 8) {
    put(c, c00, c01, scale, accumulate);
    put(c + ldc, c10, c11, scale, accumulate);
    put(c + 2 * ldc, c20, c21, scale, accumulate);
    put(c + 3 * ldc, c30, c31, scale, accumulate);
    put(c + 4 * ldc, c40, c41, scale, accumulate);
    put(c + 5 * ldc, c50, c51, scale, accumulate);
  } else if (columns == 8) {
    put(c, c00, c01, scale, accumulate);
    if (rows > 1) put(c + ldc, c10, c11, scale, accumulate);
    if (rows > 2) put(c + 2 * ldc, c20, c21, scale, accumulate);
    if (rows > 3) put(c + 3 * ldc, c30, c31, scale, accumulate);
    if (rows > 4) put(c + 4 * ldc, c40, c41, scale, accumulate);
  } else {
    put(edge, c00, c01, scale, false);
    put(edge + 32, c10, c11, scale, false);
    put(edge + 64, c20, c21, scale, false);
    put(edge + 96, c30, c31, scale, false);
    put(edge + 128, c40, c41, scale, false);
    put(edge + 160, c50, c51, scale, false);
    putEdge(rows, columns, c, ldc, accumulate);
  }
  c += cstep;
  }
}

/** strip for up to four rows: less to compute where that is all that is left. */
export function stripFour(k: i32, a: usize, lda: usize, b: usize, bstep: usize, panel: usize, c: usize, ldc: usize, cstep: usize, n: i32, rows: i32, alpha: f32, accumulate: bool): void {
  const s1 = rows > 1 ? lda : 0;
  const s2 = rows > 2 ? s1 + lda : 0;
  const s3 = rows > 3 ? s2 + lda : 0;
  const end = a + (<usize>k << 2);
  const start = b;
  for (let j = 0; j < n; j += 8) {
  const columns = min(8, n - j);
  b = start + <usize>(j >> 3) * panel;
  let c00 = splat(0), c01 = splat(0);
  let c10 = splat(0), c11 = splat(0);
  let c20 = splat(0), c21 = splat(0);
  let c30 = splat(0), c31 = splat(0);
  let b0: v128, b1: v128, x: v128;
  let a0 = a;
  let a1 = a + s1;
  let a2 = a + s2;
  let a3 = a + s3;
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
    b += bstep;
    a0 += 4;
    a1 += 4;
    a2 += 4;
    a3 += 4;
  }

  const scale = splat(alpha);
  if (rows == 4 && columns == 8) {
    put(c, c00, c01, scale, accumulate);
    put(c + ldc, c10, c11, scale, accumulate);
    put(c + 2 * ldc, c20, c21, scale, accumulate);
    put(c + 3 * ldc, c30, c31, scale, accumulate);
  } else if (columns == 8) {
    put(c, c00, c01, scale, accumulate);
    if (rows > 1) put(c + ldc, c10, c11, scale, accumulate);
    if (rows > 2) put(c + 2 * ldc, c20, c21, scale, accumulate);
  } else {
    put(edge, c00, c01, scale, false);
    put(edge + 32, c10, c11, scale, false);
    put(edge + 64, c20, c21, scale, false);
    put(edge + 96, c30, c31, scale, false);
    putEdge(rows, columns, c, ldc, accumulate);
  }
  c += cstep;
  }
}

/**
 * c[6, n] = alpha * a[6, k] b[k, n] (+ c) where the six entries of a column of A lie side by side: column p at a + p * astep; rows of B `bstep` bytes apart, as in strip.
 * Six floats are read per column even when `rows` is smaller.
 */
export function stripColumns(k: i32, at: usize, astep: usize, b: usize, bstep: usize, panel: usize, c: usize, ldc: usize, cstep: usize, n: i32, rows: i32, alpha: f32, accumulate: bool): void {
  const start = b;
  for (let j = 0; j < n; j += 8) {
  const columns = min(8, n - j);
  b = start + <usize>(j >> 3) * panel;
  let a = at;
  let c00 = splat(0), c01 = splat(0);
  let c10 = splat(0), c11 = splat(0);
  let c20 = splat(0), c21 = splat(0);
  let c30 = splat(0), c31 = splat(0);
  let c40 = splat(0), c41 = splat(0);
  let c50 = splat(0), c51 = splat(0);
  let b0: v128, b1: v128, x: v128;
  for (let p = k; p > 0; p--) {
    b0 = v128.load(b, 0);
    b1 = v128.load(b, 16);
    x = v128.load32_splat(a);
    c00 = fma(x, b0, c00);
    c01 = fma(x, b1, c01);
    x = v128.load32_splat(a, 4);
    c10 = fma(x, b0, c10);
    c11 = fma(x, b1, c11);
    x = v128.load32_splat(a, 8);
    c20 = fma(x, b0, c20);
    c21 = fma(x, b1, c21);
    x = v128.load32_splat(a, 12);
    c30 = fma(x, b0, c30);
    c31 = fma(x, b1, c31);
    x = v128.load32_splat(a, 16);
    c40 = fma(x, b0, c40);
    c41 = fma(x, b1, c41);
    x = v128.load32_splat(a, 20);
    c50 = fma(x, b0, c50);
    c51 = fma(x, b1, c51);
    a += astep;
    b += bstep;
  }

  const scale = splat(alpha);
  if (rows == 6 && columns == 8) {
    put(c, c00, c01, scale, accumulate);
    put(c + ldc, c10, c11, scale, accumulate);
    put(c + 2 * ldc, c20, c21, scale, accumulate);
    put(c + 3 * ldc, c30, c31, scale, accumulate);
    put(c + 4 * ldc, c40, c41, scale, accumulate);
    put(c + 5 * ldc, c50, c51, scale, accumulate);
  } else if (columns == 8) {
    put(c, c00, c01, scale, accumulate);
    if (rows > 1) put(c + ldc, c10, c11, scale, accumulate);
    if (rows > 2) put(c + 2 * ldc, c20, c21, scale, accumulate);
    if (rows > 3) put(c + 3 * ldc, c30, c31, scale, accumulate);
    if (rows > 4) put(c + 4 * ldc, c40, c41, scale, accumulate);
  } else {
    put(edge, c00, c01, scale, false);
    put(edge + 32, c10, c11, scale, false);
    put(edge + 64, c20, c21, scale, false);
    put(edge + 96, c30, c31, scale, false);
    put(edge + 128, c40, c41, scale, false);
    put(edge + 160, c50, c51, scale, false);
    putEdge(rows, columns, c, ldc, accumulate);
  }
  c += cstep;
  }
}

/** One row: c[1, 8] = alpha * a[k] b[k, 8] (+ c); four chains hide the latency. */
export function tileOne(k: i32, a: usize, b: usize, ldb: usize, c: usize, columns: i32, alpha: f32, accumulate: bool): void {
  let c00 = splat(0), c01 = splat(0), c10 = splat(0), c11 = splat(0), c20 = splat(0), c21 = splat(0), c30 = splat(0), c31 = splat(0);
  let x: v128;
  const end4 = a + (<usize>(k & ~3) << 2);
  const end = a + (<usize>k << 2);
  while (a < end4) {
    x = v128.load32_splat(a, 0);
    c00 = fma(x, v128.load(b), c00);
    c01 = fma(x, v128.load(b, 16), c01);
    b += ldb;
    x = v128.load32_splat(a, 4);
    c10 = fma(x, v128.load(b), c10);
    c11 = fma(x, v128.load(b, 16), c11);
    b += ldb;
    x = v128.load32_splat(a, 8);
    c20 = fma(x, v128.load(b), c20);
    c21 = fma(x, v128.load(b, 16), c21);
    b += ldb;
    x = v128.load32_splat(a, 12);
    c30 = fma(x, v128.load(b), c30);
    c31 = fma(x, v128.load(b, 16), c31);
    b += ldb;
    a += 16;
  }
  while (a < end) {
    x = v128.load32_splat(a);
    c00 = fma(x, v128.load(b), c00);
    c01 = fma(x, v128.load(b, 16), c01);
    b += ldb;
    a += 4;
  }
  c00 = f32x4.add(f32x4.add(c00, c10), f32x4.add(c20, c30));
  c01 = f32x4.add(f32x4.add(c01, c11), f32x4.add(c21, c31));
  if (columns == 8) {
    put(c, c00, c01, splat(alpha), accumulate);
  } else {
    put(edge, c00, c01, splat(alpha), false);
    putEdge(1, columns, c, 0, accumulate);
  }
}
