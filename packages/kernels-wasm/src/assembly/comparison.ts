// comparisons of float32 or int32 runs into bytes of 0 and 1, logic on such bytes, and choices by them

/** The codes of compareArrays. */
const LESS: i32 = 0;
const LESS_EQUAL: i32 = 1;
const EQUAL: i32 = 2;
const NOT_EQUAL: i32 = 3;
const WHOLE_LESS: i32 = 4;
const WHOLE_LESS_EQUAL: i32 = 5;
const WHOLE_EQUAL: i32 = 6;
const WHOLE_NOT_EQUAL: i32 = 7;

// @ts-ignore: decorator
@inline
function compare(op: i32, a: v128, b: v128): v128 {
  if (op == LESS) return f32x4.lt(a, b);
  if (op == LESS_EQUAL) return f32x4.le(a, b);
  if (op == EQUAL) return f32x4.eq(a, b);
  if (op == NOT_EQUAL) return f32x4.ne(a, b);
  if (op == WHOLE_LESS) return i32x4.lt_s(a, b);
  if (op == WHOLE_LESS_EQUAL) return i32x4.le_s(a, b);
  if (op == WHOLE_EQUAL) return i32x4.eq(a, b);
  return i32x4.ne(a, b);
}

// @ts-ignore: decorator
@inline
function compareRun(op: i32, n: i32, a: usize, stepA: usize, b: usize, stepB: usize, to: usize): void {
  let j = 0;
  // a side that is one number for the whole run has step 0
  const oneA = v128.load32_splat(a);
  const oneB = v128.load32_splat(b);
  for (; j + 16 <= n; j += 16) {
    const x0 = stepA ? v128.load(a) : oneA;
    const x1 = stepA ? v128.load(a, 16) : oneA;
    const x2 = stepA ? v128.load(a, 32) : oneA;
    const x3 = stepA ? v128.load(a, 48) : oneA;
    const y0 = stepB ? v128.load(b) : oneB;
    const y1 = stepB ? v128.load(b, 16) : oneB;
    const y2 = stepB ? v128.load(b, 32) : oneB;
    const y3 = stepB ? v128.load(b, 48) : oneB;
    const low = i16x8.narrow_i32x4_s(compare(op, x0, y0), compare(op, x1, y1));
    const high = i16x8.narrow_i32x4_s(compare(op, x2, y2), compare(op, x3, y3));
    v128.store(to, v128.and(i8x16.narrow_i16x8_s(low, high), i8x16.splat(1)));
    a += stepA << 4;
    b += stepB << 4;
    to += 16;
  }
  for (; j < n; j++) {
    const seen = compare(op, v128.load32_zero(a), v128.load32_zero(b));
    store<u8>(to, <u8>(i32x4.extract_lane(seen, 0) & 1));
    a += stepA;
    b += stepB;
    to++;
  }
}

// @ts-ignore: decorator
@inline
function compareRuns(op: i32, single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  for (let i = 0; i < n0; i++) {
    let x = a;
    let y = b;
    for (let j = 0; j < n1; j++) {
      compareRun(op, n, x, single == 2 ? 0 : 4, y, single == 1 ? 0 : 4, to);
      x += a1;
      y += b1;
      to += n;
    }
    a += a0;
    b += b0;
  }
}

/** to[n0][n1][n] = whether a op b, each side with its own strides and perhaps one number per run (`single`: 0 neither, 1 b, 2 a). */
// prettier-ignore
export function compareArrays(op: i32, single: i32, n0: i32, n1: i32, n: i32, a: usize, a0: usize, a1: usize, b: usize, b0: usize, b1: usize, to: usize): void {
  if (op == LESS) compareRuns(LESS, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
  else if (op == LESS_EQUAL) compareRuns(LESS_EQUAL, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
  else if (op == EQUAL) compareRuns(EQUAL, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
  else if (op == NOT_EQUAL) compareRuns(NOT_EQUAL, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
  else if (op == WHOLE_LESS) compareRuns(WHOLE_LESS, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
  else if (op == WHOLE_LESS_EQUAL) compareRuns(WHOLE_LESS_EQUAL, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
  else if (op == WHOLE_EQUAL) compareRuns(WHOLE_EQUAL, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
  else compareRuns(WHOLE_NOT_EQUAL, single, n0, n1, n, a, a0, a1, b, b0, b1, to);
}

/** to = a and b, or a or b (`either`), on n bytes of 0 and 1. */
export function combineBytes(either: bool, n: i32, a: usize, b: usize, to: usize): void {
  let j = 0;
  for (; j + 16 <= n; j += 16) {
    const x = v128.load(a);
    const y = v128.load(b);
    v128.store(to, either ? v128.or(x, y) : v128.and(x, y));
    a += 16;
    b += 16;
    to += 16;
  }
  for (; j < n; j++) {
    store<u8>(to++, either ? load<u8>(a) | load<u8>(b) : load<u8>(a) & load<u8>(b));
    a++;
    b++;
  }
}

/** to[i] = x[i] where the byte is not 0, else y[i], on n words. */
export function chooseWords(n: i32, bytes: usize, x: usize, y: usize, to: usize): void {
  let j = 0;
  for (; j + 4 <= n; j += 4) {
    const wide = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(bytes)));
    v128.store(to, v128.bitselect(v128.load(x), v128.load(y), i32x4.ne(wide, i32x4.splat(0))));
    bytes += 4;
    x += 16;
    y += 16;
    to += 16;
  }
  for (; j < n; j++) {
    store<u32>(to, load<u8>(bytes) ? load<u32>(x) : load<u32>(y));
    bytes++;
    x += 4;
    y += 4;
    to += 4;
  }
}
