import { expNegative4, fma, laneMax, laneSum, loadSome, splat, storeSome, tanh4 } from './lanes';
import { packRows } from './gemm';

// what forward and backward of softmax attention have in common: visibility, bias, soft cap of one tile of scores

/** rows of queries per tile */
export const QUERIES: i32 = 48;
/** most keys per tile */
export const KEYS: i32 = 96;
/** bytes of a row of scores: room for reads of six floats beyond the end */
export const SCORE_STRIDE: usize = KEYS * 4 + 32;

let causal: bool = false;
export let windowed: bool = false;
let window: f32 = 0;
let dilation: f32 = 1;
let sinks: f32 = 0;
let prefix: f32 = 0;
/** c of the soft cap, 0 for none */
export let softCap: f32 = 0;

/** Sets the visibility rule and the soft cap of the calls that follow; window 0 means none. */
export function attentionRule(isCausal: bool, window_: f32, dilation_: f32, sinks_: f32, prefix_: f32, softCap_: f32): void {
  causal = isCausal;
  windowed = window_ > 0;
  window = window_;
  dilation = dilation_;
  sinks = sinks_;
  prefix = prefix_;
  softCap = softCap_;
}

/** Copies positions, or counts up from `first` when there are none; fills up to `padded` with -1. */
export function fillPositions(from: usize, count: i32, padded: i32, first: f32, to: usize): void {
  for (let i = 0; i < padded; i++) {
    store<f32>(to + (<usize>i << 2), i >= count ? -1 : from ? load<f32>(from + (<usize>i << 2)) : first + <f32>i);
  }
}

export const HIDDEN: i32 = 0;
export const MIXED: i32 = 1;
export const VISIBLE: i32 = 2;

/** Whether no, some or all pairs of a tile are visible, judged by the ranges of positions; `keys` is padded with -1. */
export function classify(queries: usize, queryCount: i32, keys: usize, keyCount: i32): i32 {
  let qMin: f32 = Infinity;
  let qMax: f32 = -Infinity;
  for (let i = 0; i < queryCount; i++) {
    const q = load<f32>(queries + (<usize>i << 2));
    qMin = min(qMin, q);
    qMax = max(qMax, q);
  }
  let kMin: f32 = Infinity;
  let kMax: f32 = -Infinity;
  let absent = (keyCount & 7) != 0;
  for (let j = 0; j < keyCount; j++) {
    const k = load<f32>(keys + (<usize>j << 2));
    if (k < 0) {
      absent = true;
      continue;
    }
    kMin = min(kMin, k);
    kMax = max(kMax, k);
  }
  if (kMax < 0) return HIDDEN;
  if (kMin >= prefix) {
    if (causal && kMin > qMax) return HIDDEN;
    const nearest = max(kMin - qMax, qMin - kMax);
    if (windowed && nearest >= window && kMin >= sinks) return HIDDEN;
  }
  if (absent) return MIXED;
  if (kMax < prefix) return VISIBLE;
  if ((causal && kMax > qMin) || dilation > 1) return MIXED;
  const farthest = max(kMax - qMin, qMax - kMin);
  return !windowed || farthest < window || kMax < sinks ? VISIBLE : MIXED;
}

/** Lanes of keys that the query at q sees. */
// @ts-ignore: decorator
@inline
function visible4(q: v128, k: v128): v128 {
  const distance = f32x4.sub(q, k);
  let seen = i32x4.splat(-1);
  if (windowed) seen = v128.or(f32x4.lt(f32x4.abs(distance), splat(window)), f32x4.lt(k, splat(sinks)));
  if (causal) seen = v128.and(seen, f32x4.ge(distance, splat(0)));
  if (dilation > 1) {
    const d = splat(dilation);
    seen = v128.and(seen, f32x4.eq(f32x4.mul(f32x4.trunc(f32x4.div(distance, d)), d), distance));
  }
  seen = v128.or(seen, f32x4.lt(k, splat(prefix)));
  return v128.and(seen, f32x4.ge(k, splat(0)));
}

/** c tanh(s / c) over a tile, in place. */
export function capScores(scores: usize, rows: i32, width: i32): void {
  const c = splat(softCap);
  const inverse = splat(<f32>1 / softCap);
  for (let i = 0; i < rows; i++) {
    let at = scores + <usize>i * SCORE_STRIDE;
    for (let j = 0; j < width; j += 4, at += 16) v128.store(at, f32x4.mul(c, tanh4(f32x4.mul(v128.load(at), inverse))));
  }
}

/** Adds -slope |q - k| (slope 0: none) and the bias rows (0: none) to a tile; `count` keys exist. */
export function addBiases(scores: usize, rows: i32, count: i32, queries: usize, keys: usize, slope: f32, bias: usize, biasStride: usize): void {
  const minus = splat(-slope);
  for (let i = 0; i < rows; i++) {
    let at = scores + <usize>i * SCORE_STRIDE;
    const q = v128.load32_splat(queries + (<usize>i << 2));
    let from = bias + <usize>i * biasStride;
    let key = keys;
    for (let j = 0; j < count; j += 4) {
      let s = v128.load(at);
      if (slope != 0) s = fma(minus, f32x4.abs(f32x4.sub(q, v128.load(key))), s);
      if (bias) s = f32x4.add(s, j + 4 <= count ? v128.load(from) : loadSome(from, count - j));
      v128.store(at, s);
      at += 16;
      from += 16;
      key += 16;
    }
  }
}

/** Puts -Infinity where a key is not visible. */
export function hideScores(scores: usize, rows: i32, width: i32, queries: usize, keys: usize): void {
  const nothing = splat(-Infinity);
  for (let i = 0; i < rows; i++) {
    let at = scores + <usize>i * SCORE_STRIDE;
    const q = v128.load32_splat(queries + (<usize>i << 2));
    let key = keys;
    for (let j = 0; j < width; j += 4, at += 16, key += 16) v128.store(at, v128.bitselect(v128.load(at), nothing, visible4(q, v128.load(key))));
  }
}

/** Running maxima and sums of rows that have seen nothing yet but a sink, whose logit is at `sink` (0: none). */
export function startRows(rows: i32, sink: usize, maxima: usize, sums: usize): void {
  for (let r = 0; r < rows; r++) {
    store<f32>(maxima + (<usize>r << 2), sink ? load<f32>(sink) : -Infinity);
    store<f32>(sums + (<usize>r << 2), sink ? 1 : 0);
  }
}

/**
 * One step of the online softmax over a tile: scores become e^(s - m), the running maxima and sums move on, and the rows of `out` are rescaled.
 */
export function onlineSoftmax(scores: usize, rows: i32, width: i32, maxima: usize, sums: usize, out: usize, outStride: usize): void {
  for (let i = 0; i < rows; i++) {
    const row = scores + <usize>i * SCORE_STRIDE;
    const end = row + (<usize>width << 2);
    // a NaN is passed over here; the exponential keeps it
    let highest = splat(-Infinity);
    for (let at = row; at < end; at += 16) highest = f32x4.pmax(highest, v128.load(at));
    const before = load<f32>(maxima + (<usize>i << 2));
    const m = max(before, laneMax(highest));
    if (m == -Infinity) {
      memory.fill(row, 0, end - row);
      continue;
    }
    const shift = splat(m);
    let s0 = splat(0);
    let at = row;
    for (; at < end; at += 16) {
      const p = expNegative4(f32x4.sub(v128.load(at), shift));
      v128.store(at, p);
      s0 = f32x4.add(s0, p);
    }
    let sum = laneSum(s0);
    if (m != before) {
      const shrink = f32x4.extract_lane(expNegative4(splat(before - m)), 0);
      store<f32>(maxima + (<usize>i << 2), m);
      sum += shrink * load<f32>(sums + (<usize>i << 2));
      const factor = splat(shrink);
      const target = out + <usize>i * outStride;
      for (let d: usize = 0; d < outStride; d += 16) v128.store(target + d, f32x4.mul(v128.load(target + d), factor));
    } else {
      sum += load<f32>(sums + (<usize>i << 2));
    }
    store<f32>(sums + (<usize>i << 2), sum);
  }
}

/** Natural logarithm of a positive normal number, in double precision inside. */
export function logarithm(x: f32): f32 {
  const bits = reinterpret<i64>(<f64>x);
  let exponent = <i32>(bits >> 52) - 1023;
  let mantissa = reinterpret<f64>((bits & 0x000fffffffffffff) | 0x3ff0000000000000);
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    exponent++;
  }
  const z = (mantissa - 1) / (mantissa + 1);
  const w = z * z;
  const series = 1 + w * (1.0 / 3 + w * (1.0 / 5 + w * (1.0 / 7 + w * (1.0 / 9 + w * (1.0 / 11 + w * (1.0 / 13))))));
  return <f32>(2 * z * series + <f64>exponent * 0.6931471805599453);
}

/** Copies strided rows times `factor` to rows of `toStride` bytes, zeros beyond `dim`. */
export function copyRows(count: i32, dim: i32, from: usize, stride: usize, factor: f32, to: usize, toStride: usize): void {
  const s = splat(factor);
  for (let i = 0; i < count; i++) {
    const source = from + <usize>i * stride;
    const target = to + <usize>i * toStride;
    let d = 0;
    for (; d + 4 <= dim; d += 4) v128.store(target + (<usize>d << 2), f32x4.mul(s, v128.load(source + (<usize>d << 2))));
    if (d < dim) {
      v128.store(target + (<usize>d << 2), f32x4.mul(s, loadSome(source + (<usize>d << 2), dim - d)));
      d += 4;
    }
    for (; (<usize>d << 2) < toStride; d += 4) v128.store(target + (<usize>d << 2), splat(0));
  }
}

/** Writes rows times `factor` back to strided rows of `dim` floats. */
export function writeRows(count: i32, dim: i32, from: usize, fromStride: usize, factor: f32, to: usize, stride: usize): void {
  const s = splat(factor);
  for (let i = 0; i < count; i++) {
    const source = from + <usize>i * fromStride;
    const target = to + <usize>i * stride;
    let d = 0;
    for (; d + 4 <= dim; d += 4) v128.store(target + (<usize>d << 2), f32x4.mul(s, v128.load(source + (<usize>d << 2))));
    if (d < dim) storeSome(target + (<usize>d << 2), f32x4.mul(s, v128.load(source + (<usize>d << 2))), dim - d);
  }
}

/** Packs strided rows of `dim` floats into panels [ceil(dim / 8)][capacity][8]. */
export function packPanels(count: i32, dim: i32, from: usize, stride: usize, to: usize, panel: usize): void {
  for (let d = 0, target = to; d < dim; d += 8, target += panel) packRows(count, min(8, dim - d), from + (<usize>d << 2), stride, target);
}

/** Divides rows of sums by their weights and writes them with their log-sum-exp. */
export function finishRows(rows: i32, valueDim: i32, out: usize, outStride: usize, maxima: usize, sums: usize, to: usize, stride: usize, lse: usize, lseStride: usize): void {
  for (let r = 0; r < rows; r++) {
    const sum = load<f32>(sums + ((<usize>r) << 2));
    const factor = splat(sum > 0 ? <f32>1 / sum : 0);
    const from = out + <usize>r * outStride;
    let d = 0;
    for (; d + 4 <= valueDim; d += 4) v128.store(to + ((<usize>d) << 2), f32x4.mul(factor, v128.load(from + ((<usize>d) << 2))));
    if (d < valueDim) storeSome(to + ((<usize>d) << 2), f32x4.mul(factor, v128.load(from + ((<usize>d) << 2))), valueDim - d);
    store<f32>(lse, sum > 0 ? load<f32>(maxima + ((<usize>r) << 2)) + logarithm(sum) : -Infinity);
    to += stride;
    lse += lseStride;
  }
}
