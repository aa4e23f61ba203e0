/** Eigenvalues and eigenvectors of the normal part of HiPPO-LegS, one of each conjugate pair. */
export interface HippoPoles {
  /** imaginary parts, ascending; every real part is -1/2 */
  readonly imaginary: Float64Array;
  /** columns of unit length, [N, N / 2] row-major */
  readonly vectorsReal: Float64Array;
  readonly vectorsImaginary: Float64Array;
}

const known = new Map<number, HippoPoles>();

/**
 * Diagonalises the normal part of the HiPPO-LegS matrix, `A + p p^T` with `A_nk = -sqrt((2n + 1)(2k + 1))` below the diagonal and `-(n + 1)` on
 * it, `p_n = sqrt(n + 1/2)`.
 *
 * That sum is -1/2 on the diagonal and skew elsewhere, so -i times its skew part is Hermitian and has real eigenvalues; they come by
 * Jacobi rotations in double precision.
 *
 * @param size N, an even number; the work grows as its cube, and results are kept
 * @see Gu et al. 2022, arXiv 2206.11893
 */
export function hippoPoles(size: number): HippoPoles {
  const found = known.get(size);
  if (found) return found;
  const [re, im] = [new Float64Array(size * size), new Float64Array(size * size)];
  for (let n = 0; n < size; n++) {
    for (let k = 0; k < n; k++) {
      // below the diagonal A + p p^T is -sqrt((2n + 1)(2k + 1)) / 2, and -i times it is imaginary
      const entry = Math.sqrt((2 * n + 1) * (2 * k + 1)) / 2;
      im[n * size + k] = entry;
      im[k * size + n] = -entry;
    }
  }
  const vectors = diagonalise(re, im, size);
  const order = Array.from({ length: size }, (_, n) => n).toSorted((a, b) => re[a * size + a]! - re[b * size + b]!);
  const kept = order.slice(size / 2);
  const columns = (from: Float64Array): Float64Array =>
    Float64Array.from(
      { length: (size * size) / 2 },
      (_, place) => from[Math.floor(place / kept.length) * size + kept[place % kept.length]!]!,
    );
  const poles = {
    imaginary: Float64Array.from(kept, (n) => re[n * size + n]!),
    vectorsReal: columns(vectors.re),
    vectorsImaginary: columns(vectors.im),
  };
  known.set(size, poles);
  return poles;
}

/** Diagonalises a Hermitian matrix in place by cyclic Jacobi rotations; returns the eigenvectors as columns. */
function diagonalise(re: Float64Array, im: Float64Array, size: number): { re: Float64Array; im: Float64Array } {
  const vectors = { re: new Float64Array(size * size), im: new Float64Array(size * size) };
  for (let n = 0; n < size; n++) vectors.re[n * size + n] = 1;
  // columns p and q of a matrix times [[c, s], [-s w, c w]], w of size 1
  const turnColumns = (a: Float64Array, b: Float64Array, p: number, q: number, c: number, s: number, wr: number, wi: number): void => {
    for (let row = 0; row < size; row++) {
      const [at, to] = [row * size + p, row * size + q];
      const [xr, xi] = [a[at]!, b[at]!];
      const [yr, yi] = [wr * a[to]! - wi * b[to]!, wr * b[to]! + wi * a[to]!];
      [a[at], b[at]] = [c * xr - s * yr, c * xi - s * yi];
      [a[to], b[to]] = [s * xr + c * yr, s * xi + c * yi];
    }
  };
  const turnRows = (p: number, q: number, c: number, s: number, wr: number, wi: number): void => {
    for (let column = 0; column < size; column++) {
      const [at, to] = [p * size + column, q * size + column];
      const [xr, xi] = [re[at]!, im[at]!];
      const [yr, yi] = [wr * re[to]! + wi * im[to]!, wr * im[to]! - wi * re[to]!];
      [re[at], im[at]] = [c * xr - s * yr, c * xi - s * yi];
      [re[to], im[to]] = [s * xr + c * yr, s * xi + c * yi];
    }
  };
  for (let sweep = 0; sweep < 60; sweep++) {
    let outside = 0;
    let whole = 0;
    for (let place = 0; place < size * size; place++) {
      const square = re[place]! ** 2 + im[place]! ** 2;
      whole += square;
      if (place % (size + 1) !== 0) outside += square;
    }
    if (outside <= 1e-30 * whole) break;
    for (let p = 0; p < size; p++) {
      for (let q = p + 1; q < size; q++) {
        const [hr, hi] = [re[p * size + q]!, im[p * size + q]!];
        const length = Math.hypot(hr, hi);
        if (length === 0) continue;
        // e^{-i phi} makes the entry real; then the usual real rotation
        const [wr, wi] = [hr / length, -hi / length];
        const tau = (re[q * size + q]! - re[p * size + p]!) / (2 * length);
        const t = (tau >= 0 ? 1 : -1) / (Math.abs(tau) + Math.hypot(1, tau));
        const c = 1 / Math.hypot(1, t);
        turnColumns(re, im, p, q, c, t * c, wr, wi);
        turnRows(p, q, c, t * c, wr, wi);
        turnColumns(vectors.re, vectors.im, p, q, c, t * c, wr, wi);
      }
    }
  }
  return vectors;
}
