import { loadSome, splat, storeSome } from './lanes';

// a + b, a - b, a * b, a / b, the larger and the smaller of float32 runs, and sums, differences and products of int32 runs

// @ts-ignore: decorator
@inline
function combine(op: i32, a: v128, b: v128): v128 {
  if (op == 0) return f32x4.add(a, b);
  if (op == 1) return f32x4.sub(a, b);
  if (op == 2) return f32x4.mul(a, b);
  if (op == 3) return f32x4.div(a, b);
  if (op == 4) return f32x4.max(a, b);
  if (op == 5) return f32x4.min(a, b);
  if (op == 6) return i32x4.add(a, b);
  if (op == 7) return i32x4.sub(a, b);
  return i32x4.mul(a, b);
}

/** One run of n numbers; `single` says which side is one number for the whole run: 0 neither, 1 b, 2 a. */
// @ts-ignore: decorator
@inline
function combineRun(op: i32, single: i32, n: i32, a: usize, b: usize, to: usize): void {
  const one = single == 1 ? v128.load32_splat(b) : single == 2 ? v128.load32_splat(a) : splat(0);
  let j = 0;
  for (; j + 8 <= n; j += 8) {
    v128.store(to, combine(op, single == 2 ? one : v128.load(a), single == 1 ? one : v128.load(b)));
    v128.store(to, combine(op, single == 2 ? one : v128.load(a, 16), single == 1 ? one : v128.load(b, 16)), 16);
    if (single != 2) a += 32;
    if (single != 1) b += 32;
    to += 32;
  }
  if (j + 4 <= n) {
    v128.store(to, combine(op, single == 2 ? one : v128.load(a), single == 1 ? one : v128.load(b)));
    if (single != 2) a += 16;
    if (single != 1) b += 16;
    to += 16;
    j += 4;
  }
  if (j < n) {
    const left = n - j;
    storeSome(to, combine(op, single == 2 ? one : loadSome(a, left), single == 1 ? one : loadSome(b, left)), left);
  }
}

// @ts-ignore: decorator
@inline
function combineRuns(op: i32, single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  const bytes = (<usize>n) << 2;
  for (let i = 0; i < n0; i++) {
    let x = a;
    let y = b;
    for (let j = 0; j < n1; j++) {
      combineRun(op, single, n, x, y, to);
      x += a1;
      y += b1;
      to += bytes;
    }
    a += a0;
    b += b0;
  }
}

// @ts-ignore: decorator
@inline
function combineAny(op: i32, single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  if (single == 0) combineRuns(op, 0, n0, n1, n, a, a0, a1, b, b0, b1, to);
  else if (single == 1) combineRuns(op, 1, n0, n1, n, a, a0, a1, b, b0, b1, to);
  else combineRuns(op, 2, n0, n1, n, a, a0, a1, b, b0, b1, to);
}

/** to[n0][n1][n] = a op b, each side with its own strides (0: the same run again) and perhaps one number per run. */
// prettier-ignore
export function addArrays(single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  combineAny(0, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
}

// prettier-ignore
export function subtractArrays(single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  combineAny(1, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
}

// prettier-ignore
export function multiplyArrays(single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  combineAny(2, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
}

// prettier-ignore
export function divideArrays(single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  combineAny(3, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
}

// prettier-ignore
export function largerOfArrays(single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  combineAny(4, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
}

// prettier-ignore
export function smallerOfArrays(single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  combineAny(5, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
}

// prettier-ignore
export function addWhole(single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  combineAny(6, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
}

// prettier-ignore
export function subtractWhole(single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  combineAny(7, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
}

// prettier-ignore
export function multiplyWhole(single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  combineAny(8, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
}
