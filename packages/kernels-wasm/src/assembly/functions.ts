import { expRemainder4, expShift4, fma, loadSome, nfma, splat, storeSome } from './lanes';

// functions of one float32 each, four at a time

/** e^x, results below the normal range included; beyond the clamps it is 0 or Infinity by itself, and NaN passes through both. */
// @ts-ignore: decorator
@inline
function wideExp4(x: v128): v128 {
  const clamped = f32x4.pmin(f32x4.pmax(x, splat(-104)), splat(89));
  const t = expShift4(clamped);
  const p = expRemainder4(clamped, t);
  // 2^n in two factors: alone it may not fit the exponent field
  const whole = i32x4.sub(t, i32x4.splat(0x4b400000));
  const half = i32x4.shr_s(whole, 1);
  const bias = i32x4.splat(127);
  const first = i32x4.shl(i32x4.add(half, bias), 23);
  const second = i32x4.shl(i32x4.add(i32x4.sub(whole, half), bias), 23);
  return f32x4.mul(f32x4.mul(p, first), second);
}

/** e^-|x|, results below the normal range included. */
// @ts-ignore: decorator
@inline
function decay4(x: v128): v128 {
  const clamped = f32x4.pmax(f32x4.neg(f32x4.abs(x)), splat(-104));
  const t = expShift4(clamped);
  // 2^(n + 64) always fits
  const scale = i32x4.shl(i32x4.add(t, i32x4.splat(127 + 64)), 23);
  return f32x4.mul(f32x4.mul(expRemainder4(clamped, t), scale), splat(5.421010862427522e-20));
}

/** ln x; 0 gives -Infinity, below 0 NaN. */
// @ts-ignore: decorator
@inline
function log4(x: v128): v128 {
  // numbers below the normal range are raised by 2^24 first
  const tiny = f32x4.lt(x, splat(1.17549435e-38));
  const raised = v128.bitselect(f32x4.mul(x, splat(16777216)), x, tiny);
  // mantissa in [sqrt(1/2), sqrt(2))
  const shifted = i32x4.sub(raised, i32x4.splat(0x3f3504f3));
  const exponent = i32x4.shr_s(shifted, 23);
  const mantissa = i32x4.sub(raised, i32x4.shl(exponent, 23));
  let e = f32x4.convert_i32x4_s(exponent);
  e = f32x4.sub(e, v128.and(tiny, splat(24)));
  const f = f32x4.sub(mantissa, splat(1));
  const square = f32x4.mul(f, f);
  let p = fma(splat(7.0376836292e-2), f, splat(-1.151461031e-1));
  p = fma(p, f, splat(1.167699874e-1));
  p = fma(p, f, splat(-1.2420140846e-1));
  p = fma(p, f, splat(1.4249322787e-1));
  p = fma(p, f, splat(-1.6668057665e-1));
  p = fma(p, f, splat(2.0000714765e-1));
  p = fma(p, f, splat(-2.4999993993e-1));
  p = fma(p, f, splat(3.3333331174e-1));
  let y = f32x4.mul(f32x4.mul(p, f), square);
  y = fma(e, splat(-2.1219444e-4), y);
  y = nfma(splat(0.5), square, y);
  let result = fma(e, splat(0.693359375), f32x4.add(f, y));
  result = v128.bitselect(splat(-Infinity), result, f32x4.eq(x, splat(0)));
  result = v128.bitselect(x, result, f32x4.eq(x, splat(Infinity)));
  return v128.bitselect(splat(NaN), result, v128.not(f32x4.ge(x, splat(0))));
}

/** ln(1 + x) without the digits that 1 + x loses. */
// @ts-ignore: decorator
@inline
function log1p4(x: v128): v128 {
  const u = f32x4.add(splat(1), x);
  const lost = f32x4.div(f32x4.sub(x, f32x4.sub(u, splat(1))), u);
  const known = f32x4.lt(f32x4.abs(lost), splat(1));
  return f32x4.add(log4(u), v128.and(lost, known));
}

/** tanh: odd series near 0, where 1 - 2 / (e^2x + 1) would lose digits. */
// @ts-ignore: decorator
@inline
function tangent4(x: v128): v128 {
  const square = f32x4.mul(x, x);
  let series = fma(splat(-5.70498872745e-3), square, splat(2.06390887954e-2));
  series = fma(series, square, splat(-5.37397155531e-2));
  series = fma(series, square, splat(1.33314422036e-1));
  series = fma(series, square, splat(-3.33332819422e-1));
  series = fma(f32x4.mul(series, square), x, x);
  const one = splat(1);
  const far = f32x4.sub(one, f32x4.div(splat(2), f32x4.add(wideExp4(f32x4.add(x, x)), one)));
  return v128.bitselect(series, far, f32x4.lt(f32x4.abs(x), splat(0.625)));
}

/** erf: an odd polynomial below 1, and 1 - e^r above, r a polynomial of |x|. */
// @ts-ignore: decorator
@inline
function erf4(x: v128): v128 {
  const square = f32x4.mul(x, x);
  let near = fma(splat(7.853861353153693e-5), square, splat(-8.010193625184903e-4));
  near = fma(near, square, splat(5.188327685732524e-3));
  near = fma(near, square, splat(-2.685381193529856e-2));
  near = fma(near, square, splat(1.128358514861418e-1));
  near = fma(near, square, splat(-3.7612625824233e-1));
  near = f32x4.mul(x, fma(near, square, splat(1.12837916572671)));
  const size = f32x4.abs(x);
  let r = fma(splat(-1.7285347e-5), size, splat(3.83197126e-4));
  r = fma(r, square, fma(splat(-3.88396438e-3), size, splat(2.42546219e-2)));
  r = fma(r, size, splat(-1.06777877e-1));
  r = fma(r, size, splat(-6.34846687e-1));
  r = fma(r, size, splat(-1.28717512e-1));
  r = fma(r, size, f32x4.neg(size));
  const far = f32x4.sub(splat(1), decay4(r));
  const sign = v128.and(x, splat(-0.0));
  return v128.bitselect(near, v128.or(far, sign), f32x4.lt(size, splat(1)));
}

/** Quarter turns nearest to two numbers, in double precision. */
// @ts-ignore: decorator
@inline
function quarters2(x: v128): v128 {
  return f64x2.nearest(f64x2.mul(x, f64x2.splat(0.6366197723675814)));
}

/** What is left of two numbers after n quarter turns; pi / 2 in two parts, of which the first has 33 bits. */
// @ts-ignore: decorator
@inline
function afterTurns2(x: v128, n: v128): v128 {
  const r = f64x2.sub(x, f64x2.mul(n, f64x2.splat(1.5707963267341256)));
  return f64x2.sub(r, f64x2.mul(n, f64x2.splat(6.077100506506192e-11)));
}

/** n modulo 4, as int32 lanes 0 and 1. */
// @ts-ignore: decorator
@inline
function quadrants2(n: v128): v128 {
  const rounds = f64x2.floor(f64x2.mul(n, f64x2.splat(0.25)));
  return i32x4.trunc_sat_f64x2_s_zero(f64x2.sub(n, f64x2.mul(rounds, f64x2.splat(4))));
}

/** sin(x + ahead * pi / 2); the angle is reduced in double precision, so that large ones keep their digits. */
// @ts-ignore: decorator
@inline
function sine4(x: v128, ahead: i32): v128 {
  const low = f64x2.promote_low_f32x4(x);
  const high = f64x2.promote_low_f32x4(v128.shuffle<f32>(x, x, 2, 3, 2, 3));
  const nLow = quarters2(low);
  const nHigh = quarters2(high);
  const rLow = f32x4.demote_f64x2_zero(afterTurns2(low, nLow));
  const rHigh = f32x4.demote_f64x2_zero(afterTurns2(high, nHigh));
  const r = v128.shuffle<f32>(rLow, rHigh, 0, 1, 4, 5);
  const turns = v128.shuffle<i32>(quadrants2(nLow), quadrants2(nHigh), 0, 1, 4, 5);
  const quadrant = i32x4.add(turns, i32x4.splat(ahead));
  const square = f32x4.mul(r, r);
  let s = fma(splat(-1.9515295891e-4), square, splat(8.3321608736e-3));
  s = fma(s, square, splat(-1.6666654611e-1));
  s = fma(f32x4.mul(s, square), r, r);
  let c = fma(splat(2.443315711809948e-5), square, splat(-1.388731625493765e-3));
  c = fma(c, square, splat(4.166664568298827e-2));
  c = fma(f32x4.mul(c, square), square, nfma(splat(0.5), square, splat(1)));
  const odd = i32x4.ne(v128.and(quadrant, i32x4.splat(1)), i32x4.splat(0));
  const negative = i32x4.shl(v128.and(quadrant, i32x4.splat(2)), 30);
  return v128.xor(v128.bitselect(c, s, odd), negative);
}

// @ts-ignore: decorator
@inline
function apply(op: i32, x: v128): v128 {
  if (op == 0) return wideExp4(x);
  if (op == 1) return tangent4(x);
  // max(x, 0) + ln(1 + e^-|x|)
  if (op == 2) return f32x4.add(f32x4.max(x, splat(0)), log1p4(decay4(x)));
  if (op == 3) return log1p4(x);
  if (op == 4) return log4(x);
  if (op == 5) return f32x4.div(splat(1), f32x4.sqrt(x));
  if (op == 6) return f32x4.neg(x);
  if (op == 8) return erf4(x);
  if (op == 9) return sine4(x, 0);
  if (op == 10) return sine4(x, 1);
  return f32x4.mul(x, x);
}

// @ts-ignore: decorator
@inline
function applyAll(op: i32, n: i32, x: usize, to: usize): void {
  let j = 0;
  // the constants of a function are made again in every round: sixteen numbers share them
  for (; j + 16 <= n; j += 16) {
    const a = apply(op, v128.load(x));
    const b = apply(op, v128.load(x, 16));
    const c = apply(op, v128.load(x, 32));
    const d = apply(op, v128.load(x, 48));
    v128.store(to, a);
    v128.store(to, b, 16);
    v128.store(to, c, 32);
    v128.store(to, d, 48);
    x += 64;
    to += 64;
  }
  for (; j + 4 <= n; j += 4) {
    v128.store(to, apply(op, v128.load(x)));
    x += 16;
    to += 16;
  }
  if (j < n) storeSome(to, apply(op, loadSome(x, n - j)), n - j);
}

export function exponentials(n: i32, x: usize, to: usize): void {
  applyAll(0, n, x, to);
}

export function hyperbolicTangents(n: i32, x: usize, to: usize): void {
  applyAll(1, n, x, to);
}

export function softplusses(n: i32, x: usize, to: usize): void {
  applyAll(2, n, x, to);
}

/** ln(1 + x). */
export function logarithms1p(n: i32, x: usize, to: usize): void {
  applyAll(3, n, x, to);
}

export function logarithms(n: i32, x: usize, to: usize): void {
  applyAll(4, n, x, to);
}

export function inverseRoots(n: i32, x: usize, to: usize): void {
  applyAll(5, n, x, to);
}

export function negatives(n: i32, x: usize, to: usize): void {
  applyAll(6, n, x, to);
}

export function squares(n: i32, x: usize, to: usize): void {
  applyAll(7, n, x, to);
}

export function errorFunctions(n: i32, x: usize, to: usize): void {
  applyAll(8, n, x, to);
}

export function sines(n: i32, x: usize, to: usize): void {
  applyAll(9, n, x, to);
}

export function cosines(n: i32, x: usize, to: usize): void {
  applyAll(10, n, x, to);
}
