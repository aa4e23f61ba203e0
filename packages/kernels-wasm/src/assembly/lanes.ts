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

/** e^x of four lanes, within 2 units in the last place; -Infinity gives 0, results below the normal range become 0, large x gives Infinity, NaN stays. */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  // range: outside it the result is 0 or Infinity anyway, and the exponent arithmetic below would wrap
  const clamped = f32x4.pmin(f32x4.splat(88.72284), f32x4.pmax(f32x4.splat(-87.33654), x));
  const n = f32x4.nearest(f32x4.mul(clamped, f32x4.splat(1.44269504)));
  // ln 2 in two parts keeps the remainder exact
  let r = nfma(n, f32x4.splat(0.693359375), clamped);
  r = nfma(n, f32x4.splat(-2.12194440e-4), r);
  let p = fma(f32x4.splat(1.9875691500e-4), r, f32x4.splat(1.3981999507e-3));
  p = fma(p, r, f32x4.splat(8.3334519073e-3));
  p = fma(p, r, f32x4.splat(4.1665795894e-2));
  p = fma(p, r, f32x4.splat(1.6666665459e-1));
  p = fma(p, r, f32x4.splat(5.0000001201e-1));
  p = fma(p, f32x4.mul(r, r), f32x4.add(r, f32x4.splat(1)));
  // two factors 2^(n/2): n = 128 alone would not fit the exponent field
  const whole = i32x4.trunc_sat_f32x4_s(n);
  const half = i32x4.shr_s(whole, 1);
  const bias = i32x4.splat(127);
  const first = i32x4.shl(i32x4.add(half, bias), 23);
  const second = i32x4.shl(i32x4.add(i32x4.sub(whole, half), bias), 23);
  let result = f32x4.mul(f32x4.mul(p, first), second);
  result = v128.andnot(result, f32x4.lt(x, f32x4.splat(-87.33654)));
  result = v128.bitselect(f32x4.splat(Infinity), result, f32x4.gt(x, f32x4.splat(88.72284)));
  return v128.bitselect(x, result, f32x4.ne(x, x));
}

/** e^x of four lanes for x <= 0 (no overflow branch, NaN not kept): the softmax inner loop. */
// @ts-ignore: decorator
@inline
export function expNegative4(x: v128): v128 {
  const clamped = f32x4.pmax(f32x4.splat(-87.33654), x);
  const n = f32x4.nearest(f32x4.mul(clamped, f32x4.splat(1.44269504)));
  let r = nfma(n, f32x4.splat(0.693359375), clamped);
  r = nfma(n, f32x4.splat(-2.12194440e-4), r);
  let p = fma(f32x4.splat(1.9875691500e-4), r, f32x4.splat(1.3981999507e-3));
  p = fma(p, r, f32x4.splat(8.3334519073e-3));
  p = fma(p, r, f32x4.splat(4.1665795894e-2));
  p = fma(p, r, f32x4.splat(1.6666665459e-1));
  p = fma(p, r, f32x4.splat(5.0000001201e-1));
  p = fma(p, f32x4.mul(r, r), f32x4.add(r, f32x4.splat(1)));
  const scale = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23);
  return v128.andnot(f32x4.mul(p, scale), f32x4.lt(x, f32x4.splat(-87.33654)));
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
