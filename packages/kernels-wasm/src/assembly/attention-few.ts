import { dot, vectorTimesRows } from './gemm';
import { fma, loadSome, splat } from './lanes';
import { touch } from './memory';
import {
  HIDDEN, KEYS, MIXED, SCORE_STRIDE, addBiases, capScores, classify, copyRows, fillPositions, finishRows, hideScores, onlineSoftmax, softCap, startRows,
  windowed,
} from './attention-tiles';

// softmax attention of a few queries to many keys, as a decoder's. Nothing is packed, and all heads go through a tile of keys before any goes on, so that keys
// and values come from memory once, in the order in which they lie

/** most queries (tokens times heads that share keys) per group of heads: with more of them, packing pays */
const FEW: i32 = 16;

let queryAt: usize = 0; // [T] positions
let keyAt: usize = 0; // [S up to a multiple of KEYS] positions, -1 beyond
let queries: usize = 0; // [heads][T][D]
let scores: usize = 0; // [FEW][KEYS], of one group
let out: usize = 0; // [heads][T][Dv]
let maxima: usize = 0; // [heads][T]
let sums: usize = 0;

/** Whether there are few queries. */
export function isFew(t: i32, heads: i32, groups: i32): bool {
  return t * (heads / groups) <= FEW;
}

/** Lays the scratch out from `at`; returns the end. */
export function layoutFew(at: usize, t: i32, s: i32, heads: i32, dim: i32, valueDim: i32): usize {
  const rows = <usize>(heads * t);
  queryAt = at;
  keyAt = queryAt + (<usize>((t + 3) & ~3) << 2);
  queries = keyAt + (<usize>(s + KEYS + 8) << 2);
  scores = queries + rows * <usize>((dim + 3) & ~3) * 4;
  out = scores + SCORE_STRIDE * FEW + 64;
  maxima = out + rows * <usize>((valueDim + 7) & ~7) * 4;
  sums = maxima + rows * 4;
  return sums + rows * 4 + 64;
}

/** Sums of the lanes of four vectors. */
// @ts-ignore: decorator
@inline
function fourSums(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7));
  return f32x4.add(v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
}

/** scores[i, j] = query_i · key_j, two rows of queries and four keys at a time; queries are padded with zeros to whole vectors. */
export function fewScores(rows: i32, count: i32, dim: i32, query: usize, queryStride: usize, key: usize, keyStride: usize, to: usize): void {
  const whole = <usize>(dim & ~3) << 2;
  const rest = dim & 3;
  for (let i = 0; i < rows; i += 2) {
    const first = query + <usize>i * queryStride;
    // an odd last row goes with itself
    const both = i + 1 < rows;
    const second = both ? first + queryStride : first;
    const row = to + <usize>i * SCORE_STRIDE;
    let j = 0;
    for (; j + 4 <= count; j += 4) {
      const k0 = key + <usize>j * keyStride;
      const k1 = k0 + keyStride;
      const k2 = k1 + keyStride;
      const k3 = k2 + keyStride;
      let x0 = splat(0), x1 = splat(0), x2 = splat(0), x3 = splat(0);
      let y0 = splat(0), y1 = splat(0), y2 = splat(0), y3 = splat(0);
      for (let d: usize = 0; d < whole; d += 16) {
        const x = v128.load(first + d);
        const y = v128.load(second + d);
        let k = v128.load(k0 + d);
        x0 = fma(x, k, x0);
        y0 = fma(y, k, y0);
        k = v128.load(k1 + d);
        x1 = fma(x, k, x1);
        y1 = fma(y, k, y1);
        k = v128.load(k2 + d);
        x2 = fma(x, k, x2);
        y2 = fma(y, k, y2);
        k = v128.load(k3 + d);
        x3 = fma(x, k, x3);
        y3 = fma(y, k, y3);
      }
      if (rest) {
        const x = v128.load(first + whole);
        const y = v128.load(second + whole);
        let k = loadSome(k0 + whole, rest);
        x0 = fma(x, k, x0);
        y0 = fma(y, k, y0);
        k = loadSome(k1 + whole, rest);
        x1 = fma(x, k, x1);
        y1 = fma(y, k, y1);
        k = loadSome(k2 + whole, rest);
        x2 = fma(x, k, x2);
        y2 = fma(y, k, y2);
        k = loadSome(k3 + whole, rest);
        x3 = fma(x, k, x3);
        y3 = fma(y, k, y3);
      }
      const at = row + (<usize>j << 2);
      v128.store(at, fourSums(x0, x1, x2, x3));
      if (both) v128.store(at + SCORE_STRIDE, fourSums(y0, y1, y2, y3));
    }
    for (; j < count; j++) {
      const at = row + (<usize>j << 2);
      store<f32>(at, dot(dim, first, key + <usize>j * keyStride));
      if (both) store<f32>(at + SCORE_STRIDE, dot(dim, second, key + <usize>j * keyStride));
    }
    for (; j < ((count + 7) & ~7); j++) {
      const at = row + (<usize>j << 2);
      store<f32>(at, 0);
      if (both) store<f32>(at + SCORE_STRIDE, 0);
    }
  }
}

/** attentionForward for few queries; the arguments are those of one batch entry. */
export function attendFew(
  t: i32, s: i32, heads: i32, groups: i32, dim: i32, valueDim: i32, scale: f32, query: usize, key: usize, value: usize, queryPositions: usize,
  keyPositions: usize, bias: usize, biasHead: usize, sinkLogits: usize, slopes: usize, output: usize, lse: usize,
): void {
  const queryStride = <usize>(heads * dim) << 2;
  const keyStride = <usize>(groups * dim) << 2;
  const valueStride = <usize>(groups * valueDim) << 2;
  const outputStride = <usize>(heads * valueDim) << 2;
  const rowStride = <usize>((dim + 3) & ~3) << 2;
  const outStride = <usize>((valueDim + 7) & ~7) << 2;
  const share = heads / groups;
  const rows = share * t;
  // short tiles waste less at the edges of a window
  const tile = s >= 1024 && !windowed ? KEYS : 48;
  fillPositions(queryPositions, t, t, <f32>(s - t), queryAt);
  fillPositions(keyPositions, s, s + 8, 0, keyAt);
  memory.fill(out, 0, outStride * (heads * t));
  for (let h = 0; h < heads; h++) {
    copyRows(t, dim, query + (<usize>(h * dim) << 2), queryStride, scale, queries + <usize>(h * t) * rowStride, rowStride);
    const row = <usize>(h * t) << 2;
    startRows(t, sinkLogits ? sinkLogits + (<usize>h << 2) : 0, maxima + row, sums + row);
  }
  for (let j = 0; j < s; j += tile) {
    const count = min(tile, s - j);
    const width = (count + 7) & ~7;
    const places = keyAt + (<usize>j << 2);
    const sight = classify(queryAt, t, places, count);
    if (sight == HIDDEN) continue;
    const keys = key + <usize>j * keyStride;
    const values = value + <usize>j * valueStride;
    touch(keys, <usize>count * keyStride);
    touch(values, <usize>count * valueStride);
    for (let g = 0; g < groups; g++) {
      const row = <usize>(g * rows);
      fewScores(rows, count, dim, queries + row * rowStride, rowStride, keys + (<usize>(g * dim) << 2), keyStride, scores);
      if (softCap > 0) capScores(scores, rows, width);
      for (let n = 0; n < share; n++) {
        const h = g * share + n;
        const tileScores = scores + <usize>(n * t) * SCORE_STRIDE;
        const slope = slopes ? load<f32>(slopes + (<usize>h << 2)) : 0;
        const biasRows = bias ? bias + <usize>h * biasHead + (<usize>j << 2) : 0;
        if (bias != 0 || slope != 0) addBiases(tileScores, t, count, queryAt, places, slope, biasRows, <usize>s << 2);
        if (sight == MIXED) hideScores(tileScores, t, width, queryAt, places);
      }
      onlineSoftmax(scores, rows, width, maxima + (row << 2), sums + (row << 2), out + row * outStride, outStride);
      for (let r = 0; r < rows; r++) {
        const weights = scores + <usize>r * SCORE_STRIDE;
        vectorTimesRows(valueDim, count, weights, values + (<usize>(g * valueDim) << 2), valueStride, out + (row + r) * outStride, 1, true);
      }
    }
  }
  for (let h = 0; h < heads; h++) {
    const row = <usize>(h * t);
    const to = output + (<usize>(h * valueDim) << 2);
    const places = <usize>heads << 2;
    finishRows(t, valueDim, out + row * outStride, outStride, maxima + (row << 2), sums + (row << 2), to, outputStride, lse + (<usize>h << 2), places);
  }
}
