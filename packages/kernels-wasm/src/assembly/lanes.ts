// single-precision lanes: fused multiply-add where the build has it, exponentials, sums over lanes

/** a * b + c, fused in the relaxed build. */
// @ts-ignore: decorator
@inline
export function fma(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    return f32x4.relaxed_madd(a, b, c);
  } else {
    return f32x4.add(f32x4.mul(a, b), c);
  }
}

/** c - a * b, fused in the relaxed build. */
// @ts-ignore: decorator
@inline
export function nfma(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    return f32x4.relaxed_nmadd(a, b, c);
  } else {
    return f32x4.sub(c, f32x4.mul(a, b));
  }
}

// @ts-ignore: decorator
@inline
export function splat(x: f32): v128 {
  return f32x4.splat(x);
}

/** Sum of the four lanes. */
// @ts-ignore: decorator
@inline
export function laneSum(x: v128): f32 {
  const pairs = f32x4.add(x, v128.shuffle<f32>(x, x, 2, 3, 0, 1));
  return f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1);
}

/** Largest of the four lanes. */
// @ts-ignore: decorator
@inline
export function laneMax(x: v128): f32 {
  const pairs = f32x4.max(x, v128.shuffle<f32>(x, x, 2, 3, 0, 1));
  return max(f32x4.extract_lane(pairs, 0), f32x4.extract_lane(pairs, 1));
}

// constants of the exponential. Literals would be put together anew in every round of a loop, by three instructions each; a mutable global is one load.
let lowest: v128 = i32x4(0, 0, 0, 0);
let highest: v128 = i32x4(0, 0, 0, 0);
let perLn2: v128 = i32x4(0, 0, 0, 0);
let ln2High: v128 = i32x4(0, 0, 0, 0);
let ln2Low: v128 = i32x4(0, 0, 0, 0);
let c6: v128 = i32x4(0, 0, 0, 0);
let c5: v128 = i32x4(0, 0, 0, 0);
let c4: v128 = i32x4(0, 0, 0, 0);
let c3: v128 = i32x4(0, 0, 0, 0);
let c2: v128 = i32x4(0, 0, 0, 0);
let half: v128 = i32x4(0, 0, 0, 0);
let one: v128 = i32x4(0, 0, 0, 0);
/** 1.5 * 2^23: added to a number, it leaves the nearest integer in the lowest bits */
let rounder: v128 = i32x4(0, 0, 0, 0);
/** the same plus 127: the lowest bits become the exponent field of 2^n */
let biased: v128 = i32x4(0, 0, 0, 0);
let infinity: v128 = i32x4(0, 0, 0, 0);

/** Fills the constants; to be called once, before any kernel. */
export function setConstants(): void {
  lowest = f32x4.splat(-87.33654);
  highest = f32x4.splat(88.73);
  perLn2 = f32x4.splat(1.44269504);
  ln2High = f32x4.splat(0.693359375);
  ln2Low = f32x4.splat(-2.12194440e-4);
  c6 = f32x4.splat(1.9875691500e-4);
  c5 = f32x4.splat(1.3981999507e-3);
  c4 = f32x4.splat(8.3334519073e-3);
  c3 = f32x4.splat(4.1665795894e-2);
  c2 = f32x4.splat(1.6666665459e-1);
  half = f32x4.splat(5.0000001201e-1);
  one = f32x4.splat(1);
  rounder = f32x4.splat(12582912);
  infinity = f32x4.splat(Infinity);
  biased = f32x4.splat(12582912 + 127);
}

/** x / ln 2 rounded to an integer n, which stands in the lowest bits of the result: it is n + 1.5 * 2^23. */
// @ts-ignore: decorator
@inline
export function expShift4(x: v128): v128 {
  return fma(x, perLn2, rounder);
}

/** e^(x - n ln 2), where `shifted` is expShift4(x). */
// @ts-ignore: decorator
@inline
export function expRemainder4(x: v128, shifted: v128): v128 {
  return expBeyond4(x, f32x4.sub(shifted, rounder));
}

/** e^(x - n ln 2). */
// @ts-ignore: decorator
@inline
function expBeyond4(x: v128, n: v128): v128 {
  // ln 2 in two parts keeps the remainder exact
  const r = nfma(n, ln2Low, nfma(n, ln2High, x));
  let p = fma(c6, r, c5);
  p = fma(p, r, c4);
  p = fma(p, r, c3);
  p = fma(p, r, c2);
  p = fma(p, r, half);
  return fma(p, f32x4.mul(r, r), f32x4.add(r, one));
}

/** e^x of four lanes, within 2 units in the last place; -Infinity gives 0, results below the normal range become 0, large x gives Infinity, NaN stays. */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  // outside this range the result is 0 or Infinity anyway, and the exponent arithmetic below would wrap; NaN passes
  const clamped = f32x4.pmax(f32x4.pmin(x, highest), lowest);
  const shifted = expShift4(clamped);
  // n goes straight to the exponent field: 2^128 alone would not fit one; what is beyond Infinity there is Infinity
  const result = i32x4.min_s(i32x4.add(expRemainder4(clamped, shifted), i32x4.shl(shifted, 23)), infinity);
  // NaN, whatever became of its bits
  return v128.andnot(f32x4.add(result, f32x4.sub(clamped, clamped)), f32x4.lt(x, lowest));
}

/** e^x of four lanes for x <= 0, NaN stays: the softmax inner loop. */
// @ts-ignore: decorator
@inline
export function expNegative4(x: v128): v128 {
  const clamped = f32x4.pmax(x, lowest);
  const shifted = fma(clamped, perLn2, biased);
  const result = f32x4.mul(expBeyond4(clamped, f32x4.sub(shifted, biased)), i32x4.shl(shifted, 23));
  return v128.andnot(result, f32x4.lt(x, lowest));
}

/** e^x of four lanes for |x| <= 87.3, 0 below and e^87.3 above; NaN stays. */
// @ts-ignore: decorator
@inline
export function expDecay4(x: v128): v128 {
  return expNegative4(f32x4.pmin(x, f32x4.neg(lowest)));
}

/** 1 / (1 + e^-x) of four lanes; both ends saturate. */
// @ts-ignore: decorator
@inline
export function sigmoid4(x: v128): v128 {
  const one = f32x4.splat(1);
  return f32x4.div(one, f32x4.add(one, exp4(f32x4.neg(x))));
}

/** e^x of one number, with the same rounding as exp4. */
// @ts-ignore: decorator
@inline
export function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp4(f32x4.splat(x)), 0);
}

// @ts-ignore: decorator
@inline
export function sigmoid1(x: f32): f32 {
  return f32x4.extract_lane(sigmoid4(f32x4.splat(x)), 0);
}

/** The first `count` (1 to 3) floats at p, zeros above: never reads past the last of them. */
// @ts-ignore: decorator
@inline
export function loadSome(p: usize, count: i32): v128 {
  let x = v128.load32_zero(p);
  if (count > 1) x = f32x4.replace_lane(x, 1, load<f32>(p, 4));
  if (count > 2) x = f32x4.replace_lane(x, 2, load<f32>(p, 8));
  return x;
}

/** Writes the first `count` (1 to 3) lanes at p. */
// @ts-ignore: decorator
@inline
export function storeSome(p: usize, x: v128, count: i32): void {
  v128.store_lane<f32>(p, x, 0);
  if (count > 1) v128.store_lane<f32>(p, x, 1, 4);
  if (count > 2) v128.store_lane<f32>(p, x, 2, 8);
}

/** Four floats at p, or the `left` that there are, zeros above. */
// @ts-ignore: decorator
@inline
export function take4(p: usize, left: i32): v128 {
  return left >= 4 ? v128.load(p) : loadSome(p, left);
}

/** Writes four floats at p, or the `left` that there is room for. */
// @ts-ignore: decorator
@inline
export function put4(p: usize, x: v128, left: i32): void {
  if (left >= 4) v128.store(p, x);
  else storeSome(p, x, left);
}

/** tanh of four lanes: odd series near 0, where 1 - 2 / (e^2x + 1) would lose digits. */
// @ts-ignore: decorator
@inline
export function tanh4(x: v128): v128 {
  const square = f32x4.mul(x, x);
  let series = fma(square, splat(2.1869488e-2), splat(-5.3968254e-2));
  series = fma(series, square, splat(0.13333333));
  series = fma(series, square, splat(-0.33333333));
  series = fma(f32x4.mul(series, square), x, x);
  const one = splat(1);
  const far = f32x4.sub(one, f32x4.div(splat(2), f32x4.add(exp4(f32x4.add(x, x)), one)));
  return v128.bitselect(series, far, f32x4.lt(f32x4.abs(x), splat(0.3)));
}
