import { laneSum, loadSome, splat, storeSome } from './lanes';

/** Sum of n numbers in 16 partial sums. */
// @ts-ignore: decorator
@inline
function runSum(n: i32, x: usize): f32 {
  let s0 = splat(0);
  let s1 = splat(0);
  let s2 = splat(0);
  let s3 = splat(0);
  let j = 0;
  for (; j + 16 <= n; j += 16) {
    s0 = f32x4.add(s0, v128.load(x));
    s1 = f32x4.add(s1, v128.load(x, 16));
    s2 = f32x4.add(s2, v128.load(x, 32));
    s3 = f32x4.add(s3, v128.load(x, 48));
    x += 64;
  }
  for (; j + 4 <= n; j += 4) {
    s0 = f32x4.add(s0, v128.load(x));
    x += 16;
  }
  if (j < n) s1 = f32x4.add(s1, loadSome(x, n - j));
  return laneSum(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
}

/** to[rows] = factor * sum over n of x[rows][n]; long rows are summed in blocks, so that rounding does not grow with them. */
export function sumRuns(rows: i32, n: i32, x: usize, factor: f32, to: usize): void {
  if (n < 8) {
    for (let i = 0; i < rows; i++) {
      let sum = load<f32>(x);
      for (let j = 1; j < n; j++) sum += load<f32>(x + ((<usize>j) << 2));
      store<f32>(to, sum * factor);
      x += (<usize>n) << 2;
      to += 4;
    }
    return;
  }
  for (let i = 0; i < rows; i++) {
    let sum: f64 = 0;
    for (let j = 0; j < n; j += 256) {
      const count = min(256, n - j);
      sum += <f64>runSum(count, x);
      x += (<usize>count) << 2;
    }
    store<f32>(to, <f32>(sum * <f64>factor));
    to += 4;
  }
}

/** Sum of eight rows at four columns, in pairs. */
// @ts-ignore: decorator
@inline
function eightRows4(x: usize, row: usize): v128 {
  const a = f32x4.add(v128.load(x), v128.load(x + row));
  const b = f32x4.add(v128.load(x + 2 * row), v128.load(x + 3 * row));
  const c = f32x4.add(v128.load(x + 4 * row), v128.load(x + 5 * row));
  const d = f32x4.add(v128.load(x + 6 * row), v128.load(x + 7 * row));
  return f32x4.add(f32x4.add(a, b), f32x4.add(c, d));
}

/** to[n] += the sum of 32 rows of n numbers: few additions to the running sum, so that rounding grows slowly. */
export function addManyRows(n: i32, x: usize, row: usize, to: usize): void {
  const eight = row << 3;
  let j = 0;
  for (; j + 4 <= n; j += 4) {
    const low = f32x4.add(eightRows4(x, row), eightRows4(x + eight, row));
    const high = f32x4.add(eightRows4(x + 2 * eight, row), eightRows4(x + 3 * eight, row));
    v128.store(to, f32x4.add(v128.load(to), f32x4.add(low, high)));
    x += 16;
    to += 16;
  }
  for (; j < n; j++) {
    let sum: f32 = 0;
    for (let i = 0; i < 32; i++) sum += load<f32>(x + <usize>i * row);
    store<f32>(to, load<f32>(to) + sum);
    x += 4;
    to += 4;
  }
}

/** to[n] += x[n]. */
// @ts-ignore: decorator
@inline
function addOneRow(n: i32, x: usize, to: usize): void {
  let j = 0;
  for (; j + 4 <= n; j += 4) {
    v128.store(to, f32x4.add(v128.load(to), v128.load(x)));
    x += 16;
    to += 16;
  }
  if (j < n) storeSome(to, f32x4.add(loadSome(to, n - j), loadSome(x, n - j)), n - j);
}

/** to[n] = sum of the rows of x[rows][n]. */
export function sumRows(rows: i32, n: i32, x: usize, to: usize): void {
  const row = (<usize>n) << 2;
  memory.fill(to, 0, row);
  let i = 0;
  for (; i + 32 <= rows; i += 32) {
    addManyRows(n, x, row, to);
    x += row << 5;
  }
  for (; i < rows; i++) {
    addOneRow(n, x, to);
    x += row;
  }
}

/** to[outer][n] = factor * sum over rows of x[outer][rows][n]. */
export function sumMiddle(outer: i32, rows: i32, n: i32, x: usize, factor: f32, to: usize): void {
  const row = (<usize>n) << 2;
  const scale = splat(factor);
  for (let i = 0; i < outer; i++) {
    sumRows(rows, n, x, to);
    if (factor != 1) {
      let j = 0;
      for (; j + 4 <= n; j += 4) v128.store(to + ((<usize>j) << 2), f32x4.mul(scale, v128.load(to + ((<usize>j) << 2))));
      for (; j < n; j++) store<f32>(to + ((<usize>j) << 2), factor * load<f32>(to + ((<usize>j) << 2)));
    }
    x += row * rows;
    to += row;
  }
}

/** Running sums along the middle axis of x[outer][rows][n]; `exclusive` leaves a row's own number out, `reverse` starts at the end. */
export function runningSums(outer: i32, rows: i32, n: i32, exclusive: bool, reverse: bool, x: usize, to: usize): void {
  const row = (<usize>n) << 2;
  const step: usize = reverse ? <usize>0 - row : row;
  for (let i = 0; i < outer; i++) {
    let source = x;
    let target = to;
    if (reverse) {
      source += row * (rows - 1);
      target += row * (rows - 1);
    }
    if (n == 1) {
      let sum: f32 = 0;
      for (let r = 0; r < rows; r++) {
        const own = load<f32>(source);
        if (exclusive) store<f32>(target, sum);
        sum += own;
        if (!exclusive) store<f32>(target, sum);
        source += step;
        target += step;
      }
    } else {
      for (let r = 0; r < rows; r++) {
        if (r > 0) addRows(n, target - step, exclusive ? source - step : source, target);
        else if (exclusive) memory.fill(target, 0, row);
        else memory.copy(target, source, row);
        source += step;
        target += step;
      }
    }
    x += row * rows;
    to += row * rows;
  }
}

/** to[n] = a[n] + b[n] */
// @ts-ignore: decorator
@inline
function addRows(n: i32, a: usize, b: usize, to: usize): void {
  let j = 0;
  for (; j + 4 <= n; j += 4) {
    v128.store(to, f32x4.add(v128.load(a), v128.load(b)));
    a += 16;
    b += 16;
    to += 16;
  }
  for (; j < n; j++) {
    store<f32>(to, load<f32>(a) + load<f32>(b));
    a += 4;
    b += 4;
    to += 4;
  }
}
