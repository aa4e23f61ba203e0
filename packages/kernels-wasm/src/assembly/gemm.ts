import { fma, laneSum, loadSome, splat } from './lanes';
import { strip, stripColumns, stripFour, tileOne } from './tile';

// matrix products on strided operands; all strides in bytes

/** rows of B that are packed at a time: a panel of 8 columns then fills 8 KiB */
export const PACK_ROWS: i32 = 256;
/** columns of B that are packed at a time */
export const PACK_COLUMNS: i32 = 512;
/** elements of a factor up to which it is read where it lies: it stays in the nearest cache, and packing would cost more than it brings */
const DIRECT: i32 = 8192;

/** Packs b[k, n] (row p at b + p * ldb) into panels of 8 columns, [ceil(n / 8)][k][8], zeros beyond n. */
export function packRows(k: i32, n: i32, b: usize, ldb: usize, to: usize): void {
  const panel = (<usize>k) << 5;
  let j = 0;
  for (; j + 16 <= n; j += 16) {
    let from = b + ((<usize>j) << 2);
    for (let p = 0; p < k; p++) {
      v128.store(to, v128.load(from));
      v128.store(to, v128.load(from, 16), 16);
      v128.store(to + panel, v128.load(from, 32));
      v128.store(to + panel, v128.load(from, 48), 16);
      to += 32;
      from += ldb;
    }
    to += panel;
  }
  for (; j < n; j += 8) {
    let from = b + ((<usize>j) << 2);
    const columns = min(8, n - j);
    for (let p = 0; p < k; p++) {
      if (columns == 8) {
        v128.store(to, v128.load(from));
        v128.store(to, v128.load(from, 16), 16);
      } else {
        v128.store(to, columns >= 4 ? v128.load(from) : loadSome(from, columns));
        v128.store(to, columns > 4 ? loadSome(from + 16, columns - 4) : splat(0), 16);
      }
      to += 32;
      from += ldb;
    }
  }
}

/** Packs the transpose of bt[n, k] (row j at bt + j * ldbt) into panels of 8 columns, [ceil(n / 8)][k][8], zeros beyond n. */
export function packTransposed(k: i32, n: i32, bt: usize, ldbt: usize, to: usize): void {
  for (let j = 0; j < n; j += 8) {
    for (let half = 0; half < 8; half += 4) {
      const columns = min(4, n - j - half);
      let target = to + ((<usize>half) << 2);
      if (columns <= 0) {
        for (let p = 0; p < k; p++, target += 32) v128.store(target, splat(0));
        continue;
      }
      let r0 = bt + <usize>(j + half) * ldbt;
      // missing columns read the first one and are zeroed below
      let r1 = columns > 1 ? r0 + ldbt : r0;
      let r2 = columns > 2 ? r1 + ldbt : r0;
      let r3 = columns > 3 ? r2 + ldbt : r0;
      const keep = i32x4.gt_s(i32x4.splat(columns), i32x4(0, 1, 2, 3));
      let p = 0;
      for (; p + 4 <= k; p += 4) {
        const x0 = v128.load(r0);
        const x1 = v128.load(r1);
        const x2 = v128.load(r2);
        const x3 = v128.load(r3);
        const low01 = v128.shuffle<f32>(x0, x1, 0, 4, 1, 5);
        const low23 = v128.shuffle<f32>(x2, x3, 0, 4, 1, 5);
        const high01 = v128.shuffle<f32>(x0, x1, 2, 6, 3, 7);
        const high23 = v128.shuffle<f32>(x2, x3, 2, 6, 3, 7);
        v128.store(target, v128.and(keep, v128.shuffle<f32>(low01, low23, 0, 1, 4, 5)));
        v128.store(target, v128.and(keep, v128.shuffle<f32>(low01, low23, 2, 3, 6, 7)), 32);
        v128.store(target, v128.and(keep, v128.shuffle<f32>(high01, high23, 0, 1, 4, 5)), 64);
        v128.store(target, v128.and(keep, v128.shuffle<f32>(high01, high23, 2, 3, 6, 7)), 96);
        target += 128;
        r0 += 16;
        r1 += 16;
        r2 += 16;
        r3 += 16;
      }
      for (; p < k; p++) {
        v128.store(target, v128.and(keep, f32x4(load<f32>(r0), load<f32>(r1), load<f32>(r2), load<f32>(r3))));
        target += 32;
        r0 += 4;
        r1 += 4;
        r2 += 4;
        r3 += 4;
      }
    }
    to += (<usize>k) << 5;
  }
}

/**
 * c[m, n] = alpha * a[m, k] b[k, n] (+ c) with B packed in panels of 8 columns, `panel` bytes apart.
 * A is row-major (row i at a + i * lda). Columns 8j of C are at c + j * cstep: 32 for row-major C, or C in panels of its own.
 */
export function gemmPacked(
  m: i32,
  n: i32,
  k: i32,
  a: usize,
  lda: usize,
  b: usize,
  panel: usize,
  c: usize,
  ldc: usize,
  cstep: usize,
  alpha: f32,
  accumulate: bool,
): void {
  gemmPanels(m, n, k, a, lda, b, 32, panel, c, ldc, cstep, alpha, accumulate);
}

/** gemmPacked with the rows of B `bstep` bytes apart; B that was not packed has whole panels, n a multiple of 8. */
function gemmPanels(
  m: i32,
  n: i32,
  k: i32,
  a: usize,
  lda: usize,
  b: usize,
  bstep: usize,
  panel: usize,
  c: usize,
  ldc: usize,
  cstep: usize,
  alpha: f32,
  accumulate: bool,
): void {
  let i = 0;
  while (i < m) {
    const rows = min(6, m - i);
    const aRow = a + <usize>i * lda;
    const cRow = c + <usize>i * ldc;
    if (rows == 1) {
      for (let j = 0, bPanel = b, to = cRow; j < n; j += 8, bPanel += panel, to += cstep) {
        tileOne(k, aRow, bPanel, bstep, to, min(8, n - j), alpha, accumulate);
      }
    } else if (rows <= 4) {
      stripFour(k, aRow, lda, b, bstep, panel, cRow, ldc, cstep, n, rows, alpha, accumulate);
    } else {
      strip(k, aRow, lda, b, bstep, panel, cRow, ldc, cstep, n, rows, alpha, accumulate);
    }
    i += rows;
  }
}

/**
 * c[m, n] = alpha * transpose(at[k, m]) b[k, n] (+ c) with B packed in panels of 8 columns, `panel` bytes apart.
 * Row p of the transposed A at at + p * ldat. Up to 5 floats beyond the end of each row are read.
 */
export function gemmPackedTransposed(
  m: i32,
  n: i32,
  k: i32,
  at: usize,
  ldat: usize,
  b: usize,
  panel: usize,
  c: usize,
  ldc: usize,
  cstep: usize,
  alpha: f32,
  accumulate: bool,
): void {
  for (let i = 0; i < m; i += 6) {
    const cRow = c + <usize>i * ldc;
    stripColumns(k, at + ((<usize>i) << 2), ldat, b, 32, panel, cRow, ldc, cstep, n, min(6, m - i), alpha, accumulate);
  }
}

/** c[n] = alpha * x[k] b[k, n] (+ c): streams the rows of B. */
export function vectorTimesRows(n: i32, k: i32, x: usize, b: usize, ldb: usize, c: usize, alpha: f32, accumulate: bool): void {
  if (!accumulate) memory.fill(c, 0, (<usize>n) << 2);
  let p = 0;
  for (; p + 4 <= k; p += 4) {
    const s0 = load<f32>(x) * alpha;
    const s1 = load<f32>(x, 4) * alpha;
    const s2 = load<f32>(x, 8) * alpha;
    const s3 = load<f32>(x, 12) * alpha;
    const x0 = splat(s0);
    const x1 = splat(s1);
    const x2 = splat(s2);
    const x3 = splat(s3);
    x += 16;
    let r0 = b;
    let r1 = r0 + ldb;
    let r2 = r1 + ldb;
    let r3 = r2 + ldb;
    b = r3 + ldb;
    let to = c;
    let j = 0;
    for (; j + 4 <= n; j += 4) {
      let y = fma(x0, v128.load(r0), v128.load(to));
      y = fma(x1, v128.load(r1), y);
      y = fma(x2, v128.load(r2), y);
      v128.store(to, fma(x3, v128.load(r3), y));
      to += 16;
      r0 += 16;
      r1 += 16;
      r2 += 16;
      r3 += 16;
    }
    for (; j < n; j++) {
      store<f32>(to, load<f32>(to) + s0 * load<f32>(r0) + s1 * load<f32>(r1) + s2 * load<f32>(r2) + s3 * load<f32>(r3));
      to += 4;
      r0 += 4;
      r1 += 4;
      r2 += 4;
      r3 += 4;
    }
  }
  for (; p < k; p++) {
    const s0 = load<f32>(x) * alpha;
    const x0 = splat(s0);
    x += 4;
    let r0 = b;
    b += ldb;
    let to = c;
    let j = 0;
    for (; j + 4 <= n; j += 4) {
      v128.store(to, fma(x0, v128.load(r0), v128.load(to)));
      to += 16;
      r0 += 16;
    }
    for (; j < n; j++) {
      store<f32>(to, load<f32>(to) + s0 * load<f32>(r0));
      to += 4;
      r0 += 4;
    }
  }
}

/** Inner product of two contiguous vectors. */
export function dot(n: i32, a: usize, b: usize): f32 {
  let s0 = splat(0);
  let s1 = splat(0);
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    s0 = fma(v128.load(a), v128.load(b), s0);
    s1 = fma(v128.load(a, 16), v128.load(b, 16), s1);
    a += 32;
    b += 32;
  }
  if (i + 4 <= n) {
    s0 = fma(v128.load(a), v128.load(b), s0);
    a += 16;
    b += 16;
    i += 4;
  }
  if (i < n) s1 = fma(loadSome(a, n - i), loadSome(b, n - i), s1);
  return laneSum(f32x4.add(s0, s1));
}

/**
 * c[m, n] = alpha * op(a)[m, k] op(b)[k, n] (+ c).
 *
 * `pack` holds packBytes(k, n) bytes. Row-major operands: a is [m, k], or [k, m] when transposed; b is [k, n], or [n, k].
 */
export function gemm(
  m: i32,
  n: i32,
  k: i32,
  a: usize,
  lda: usize,
  transposeA: bool,
  b: usize,
  ldb: usize,
  transposeB: bool,
  c: usize,
  ldc: usize,
  alpha: f32,
  accumulate: bool,
  pack: usize,
): void {
  if (m <= 0 || n <= 0) return;
  if (k <= 0) {
    if (!accumulate) for (let i = 0; i < m; i++) memory.fill(c + <usize>i * ldc, 0, (<usize>n) << 2);
    return;
  }
  if (m <= 2 && !transposeA) {
    for (let i = 0; i < m; i++) {
      const x = a + <usize>i * lda;
      const y = c + <usize>i * ldc;
      if (transposeB) {
        for (let j = 0; j < n; j++) {
          const s = alpha * dot(k, x, b + <usize>j * ldb);
          store<f32>(y + ((<usize>j) << 2), accumulate ? load<f32>(y + ((<usize>j) << 2)) + s : s);
        }
      } else {
        vectorTimesRows(n, k, x, b, ldb, y, alpha, accumulate);
      }
    }
    return;
  }
  if (!transposeA && !transposeB && (n & 7) == 0 && k <= PACK_ROWS && n * k <= DIRECT) {
    gemmPanels(m, n, k, a, lda, b, ldb, 32, c, ldc, 32, alpha, accumulate);
    return;
  }
  const packA = pack;
  const packB = pack + PACK_ROWS * 24;
  for (let p = 0; p < k; p += PACK_ROWS) {
    const depth = min(PACK_ROWS, k - p);
    const panel = (<usize>depth) << 5;
    const add = accumulate || p > 0;
    for (let j = 0; j < n; j += PACK_COLUMNS) {
      const width = min(PACK_COLUMNS, n - j);
      const cBlock = c + ((<usize>j) << 2);
      if (transposeB) packTransposed(depth, width, b + <usize>j * ldb + ((<usize>p) << 2), ldb, packB);
      else packRows(depth, width, b + <usize>p * ldb + ((<usize>j) << 2), ldb, packB);
      if (!transposeA) {
        gemmPacked(m, width, depth, a + ((<usize>p) << 2), lda, packB, panel, cBlock, ldc, 32, alpha, add);
      } else {
        for (let i = 0; i < m; i += 6) {
          const rows = min(6, m - i);
          if (rows == 6 && m * k <= DIRECT) {
            gemmPackedTransposed(6, width, depth, a + <usize>p * lda + ((<usize>i) << 2), lda, packB, panel, cBlock + <usize>i * ldc, ldc, 32, alpha, add);
            continue;
          }
          packColumns(depth, rows, a + <usize>p * lda + ((<usize>i) << 2), lda, packA);
          gemmPackedTransposed(rows, width, depth, packA, 24, packB, panel, cBlock + <usize>i * ldc, ldc, 32, alpha, add);
        }
      }
    }
  }
}

/** Copies up to six columns of at[k, rows] side by side: [k][6], zeros beyond `rows`. */
export function packColumns(k: i32, rows: i32, at: usize, ldat: usize, to: usize): void {
  if (rows == 6) {
    for (let p = 0; p < k; p++) {
      v128.store(to, v128.load(at));
      store<u64>(to, load<u64>(at, 16), 16);
      to += 24;
      at += ldat;
    }
  } else if (rows == 4) {
    for (let p = 0; p < k; p++) {
      v128.store(to, v128.load(at));
      store<u64>(to, 0, 16);
      to += 24;
      at += ldat;
    }
  } else {
    for (let p = 0; p < k; p++) {
      for (let i = 0; i < 6; i++) store<f32>(to + ((<usize>i) << 2), i < rows ? load<f32>(at + ((<usize>i) << 2)) : 0);
      to += 24;
      at += ldat;
    }
  }
}

/** Bytes of scratch that gemm needs. */
export function packBytes(n: i32, k: i32): i32 {
  const depth = min(k, PACK_ROWS);
  const width = (min(n, PACK_COLUMNS) + 7) & ~7;
  return PACK_ROWS * 24 + depth * width * 4 + 64;
}

/** Products of `batch` pairs of matrices; strides in bytes from one matrix to the next. */
export function batchGemm(
  batch: i32,
  m: i32,
  n: i32,
  k: i32,
  a: usize,
  strideA: usize,
  lda: usize,
  transposeA: bool,
  b: usize,
  strideB: usize,
  ldb: usize,
  transposeB: bool,
  c: usize,
  strideC: usize,
  ldc: usize,
  pack: usize,
): void {
  for (let i = 0; i < batch; i++) {
    gemm(m, n, k, a, lda, transposeA, b, ldb, transposeB, c, ldc, 1, false, pack);
    a += strideA;
    b += strideB;
    c += strideC;
  }
}
