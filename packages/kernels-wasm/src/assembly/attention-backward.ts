import { expNegative4, fma, laneSum, loadSome, nfma, splat, storeSome } from './lanes';
import { dot, gemmPacked, gemmPackedTransposed, packTransposed } from './gemm';
import {
  HIDDEN,
  KEYS,
  MIXED,
  QUERIES,
  SCORE_STRIDE,
  addBiases,
  capScores,
  classify,
  copyRows,
  fillPositions,
  hideScores,
  packPanels,
  softCap,
  writeRows,
} from './attention-tiles';

const TILE: i32 = 48;

let queryAt: usize = 0;
let keyAt: usize = 0;
let keysT: usize = 0; // [S / 8][D][8]
let keys: usize = 0; // [D / 8][S][8]
let valuesT: usize = 0; // [S / 8][Dv][8]
let queries: usize = 0; // [QUERIES][D], times scale
let queryPanels: usize = 0; // [D / 8][QUERIES][8]
let dOut: usize = 0; // [QUERIES][Dv]
let dOutPanels: usize = 0; // [Dv / 8][QUERIES][8]
let dQueries: usize = 0; // [QUERIES][D]
let scores: usize = 0; // p, then
let capped: usize = 0; // scores after the soft cap
let slopesOf: usize = 0; // ds
let lseOf: usize = 0; // [QUERIES]
let deltaOf: usize = 0; // [QUERIES]

const PANEL: usize = QUERIES * 32;

/** Lays the scratch out from `at`; returns its end. */
export function layoutAttentionBackward(at: usize, t: i32, s: i32, dim: i32, valueDim: i32): usize {
  const padded = <usize>(s + KEYS + 8);
  const wide = <usize>((dim + 7) & ~7);
  const valueWide = <usize>((valueDim + 7) & ~7);
  const tile = SCORE_STRIDE * QUERIES + 64;
  queryAt = at;
  keyAt = queryAt + ((<usize>((t + 3) & ~3)) << 2);
  keysT = keyAt + (padded << 2);
  keys = keysT + padded * dim * 4;
  valuesT = keys + wide * s * 4;
  queries = valuesT + padded * valueDim * 4;
  queryPanels = queries + wide * QUERIES * 4;
  dOut = queryPanels + wide * QUERIES * 4;
  dOutPanels = dOut + valueWide * QUERIES * 4;
  dQueries = dOutPanels + valueWide * QUERIES * 4;
  scores = dQueries + wide * QUERIES * 4;
  capped = scores + tile;
  slopesOf = capped + tile;
  lseOf = slopesOf + tile;
  deltaOf = lseOf + QUERIES * 4;
  return deltaOf + QUERIES * 4 + 64;
}

/** Buffers of one tile, for other kernels that work with the functions below. */
export function buffer(index: i32): usize {
  if (index == 0) return queries;
  if (index == 1) return queryPanels;
  if (index == 2) return dOut;
  if (index == 3) return dOutPanels;
  if (index == 4) return dQueries;
  if (index == 5) return scores;
  if (index == 6) return slopesOf;
  return index == 7 ? lseOf : deltaOf;
}

/** Bytes of scratch that attentionBackward needs. */
export function attentionBackwardBytes(t: i32, s: i32, dim: i32, valueDim: i32): i32 {
  return <i32>layoutAttentionBackward(0, t, s, dim, valueDim);
}

/** Scores become p = e^(s - lse), and ds = p (dp - delta) where dp was; returns the sum of ds |q - k| when `far` is set. */
export function softmaxBackward(rows: i32, width: i32, positions: usize, places: usize, far: bool): f32 {
  let total: f64 = 0;
  for (let i = 0; i < rows; i++) {
    let p = scores + <usize>i * SCORE_STRIDE;
    let ds = slopesOf + <usize>i * SCORE_STRIDE;
    const shift = v128.load32_splat(lseOf + ((<usize>i) << 2));
    const delta = v128.load32_splat(deltaOf + ((<usize>i) << 2));
    const q = v128.load32_splat(positions + ((<usize>i) << 2));
    let sum = splat(0);
    for (let j = 0; j < width; j += 4) {
      const x = expNegative4(f32x4.sub(v128.load(p), shift));
      const y = f32x4.mul(x, f32x4.sub(v128.load(ds), delta));
      v128.store(p, x);
      v128.store(ds, y);
      if (far) sum = fma(y, f32x4.abs(f32x4.sub(q, v128.load(places + ((<usize>j) << 2)))), sum);
      p += 16;
      ds += 16;
    }
    if (far) total += <f64>laneSum(sum);
  }
  return <f32>total;
}

/** ds *= 1 - (capped / c)^2 */
export function capBackward(rows: i32, width: i32): void {
  const inverse = splat(<f32>1 / softCap);
  const one = splat(1);
  for (let i = 0; i < rows; i++) {
    const row = <usize>i * SCORE_STRIDE;
    for (let j = 0; j < width; j += 4) {
      const at = row + ((<usize>j) << 2);
      const y = f32x4.mul(v128.load(capped + at), inverse);
      v128.store(slopesOf + at, f32x4.mul(v128.load(slopesOf + at), nfma(y, y, one)));
    }
  }
}

/** to[rows, count] += ds */
export function addBiasGradient(rows: i32, count: i32, to: usize, stride: usize): void {
  for (let i = 0; i < rows; i++) {
    let at = to + <usize>i * stride;
    let ds = slopesOf + <usize>i * SCORE_STRIDE;
    let j = 0;
    for (; j + 4 <= count; j += 4, at += 16, ds += 16) v128.store(at, f32x4.add(v128.load(at), v128.load(ds)));
    if (j < count) storeSome(at, f32x4.add(loadSome(at, count - j), v128.load(ds)), count - j);
  }
}

/** Gradients of attentionForward; those of key, value, bias, sink logits and slopes are added to what the pointers hold (zeros), absent ones are 0. */
export function attentionBackward(
  batch: i32,
  t: i32,
  s: i32,
  heads: i32,
  groups: i32,
  dim: i32,
  valueDim: i32,
  scale: f32,
  query: usize,
  key: usize,
  value: usize,
  queryPositions: usize,
  keyPositions: usize,
  bias: usize,
  biasBatch: usize,
  biasHead: usize,
  sinkLogits: usize,
  slopes: usize,
  output: usize,
  lse: usize,
  dOutput: usize,
  dLse: usize,
  gQuery: usize,
  gKey: usize,
  gValue: usize,
  gBias: usize,
  gSinks: usize,
  gSlopes: usize,
  scratch: usize,
): void {
  layoutAttentionBackward(scratch, t, s, dim, valueDim);
  const queryStride = (<usize>(heads * dim)) << 2;
  const keyStride = (<usize>(groups * dim)) << 2;
  const valueStride = (<usize>(groups * valueDim)) << 2;
  const outputStride = (<usize>(heads * valueDim)) << 2;
  const wide = (dim + 7) & ~7;
  const rowStride = (<usize>wide) << 2;
  const valueWide = (valueDim + 7) & ~7;
  const outStride = (<usize>valueWide) << 2;
  const keyPanelT = (<usize>dim) << 5;
  const valuePanelT = (<usize>valueDim) << 5;
  const keyPanel = (<usize>s) << 5;
  const share = heads / groups;
  for (let b = 0; b < batch; b++) {
    fillPositions(queryPositions ? queryPositions + ((<usize>(b * t)) << 2) : 0, t, t, <f32>(s - t), queryAt);
    fillPositions(keyPositions ? keyPositions + ((<usize>(b * s)) << 2) : 0, s, s + 8, 0, keyAt);
    for (let g = 0; g < groups; g++) {
      const keyOffset = <usize>(b * s) * keyStride + ((<usize>(g * dim)) << 2);
      const valueOffset = <usize>(b * s) * valueStride + ((<usize>(g * valueDim)) << 2);
      packTransposed(dim, s, key + keyOffset, keyStride, keysT);
      packPanels(s, dim, key + keyOffset, keyStride, keys, keyPanel);
      packTransposed(valueDim, s, value + valueOffset, valueStride, valuesT);
      for (let h = g * share; h < (g + 1) * share; h++) {
        const slope = slopes ? load<f32>(slopes + ((<usize>h) << 2)) : 0;
        const biasOffset = <usize>b * biasBatch + <usize>h * biasHead;
        let dSlope: f64 = 0;
        let dSink: f64 = 0;
        for (let i = 0; i < t; i += QUERIES) {
          const rows = min(QUERIES, t - i);
          const token = <usize>(b * t + i);
          const positions = queryAt + ((<usize>i) << 2);
          const upstream = dOutput + token * outputStride + ((<usize>(h * valueDim)) << 2);
          copyRows(rows, dim, query + token * queryStride + ((<usize>(h * dim)) << 2), queryStride, scale, queries, rowStride);
          packPanels(rows, dim, queries, rowStride, queryPanels, PANEL);
          copyRows(rows, valueDim, upstream, outputStride, 1, dOut, outStride);
          packPanels(rows, valueDim, dOut, outStride, dOutPanels, PANEL);
          memory.fill(dQueries, 0, rowStride * rows);
          for (let r = 0; r < rows; r++) {
            const place = (<usize>((b * t + i + r) * heads + h)) << 2;
            const row = load<f32>(lse + place);
            const along = dot(valueDim, dOut + <usize>r * outStride, output + (token + r) * outputStride + ((<usize>(h * valueDim)) << 2));
            const delta = along - load<f32>(dLse + place);
            // a row that sees nothing: e^(s - Infinity) = 0
            store<f32>(lseOf + ((<usize>r) << 2), row == -Infinity ? <f32>Infinity : row);
            store<f32>(deltaOf + ((<usize>r) << 2), row == -Infinity ? 0 : delta);
            if (sinkLogits && row != -Infinity) {
              const p = f32x4.extract_lane(expNegative4(splat(load<f32>(sinkLogits + ((<usize>h) << 2)) - row)), 0);
              dSink -= <f64>p * <f64>delta;
            }
          }
          for (let j = 0; j < s; j += TILE) {
            const count = min(TILE, s - j);
            const places = keyAt + ((<usize>j) << 2);
            const sight = classify(positions, rows, places, count);
            if (sight == HIDDEN) continue;
            const width = (count + 7) & ~7;
            gemmPacked(
              rows,
              width,
              dim,
              queries,
              rowStride,
              keysT + <usize>(j >> 3) * keyPanelT,
              keyPanelT,
              scores,
              SCORE_STRIDE,
              32,
              1,
              false,
            );
            if (softCap > 0) {
              capScores(scores, rows, width);
              memory.copy(capped, scores, SCORE_STRIDE * rows);
            }
            const biasTile = biasOffset + ((<usize>(i * s + j)) << 2);
            if (bias != 0 || slope != 0)
              addBiases(scores, rows, count, positions, places, slope, bias ? bias + biasTile : 0, (<usize>s) << 2);
            if (sight == MIXED) hideScores(scores, rows, width, positions, places);
            gemmPacked(
              rows,
              width,
              valueDim,
              dOut,
              outStride,
              valuesT + <usize>(j >> 3) * valuePanelT,
              valuePanelT,
              slopesOf,
              SCORE_STRIDE,
              32,
              1,
              false,
            );
            dSlope += <f64>softmaxBackward(rows, width, positions, places, gSlopes != 0);
            gemmPackedTransposed(
              count,
              valueDim,
              rows,
              scores,
              SCORE_STRIDE,
              dOutPanels,
              PANEL,
              gValue + valueOffset + <usize>j * valueStride,
              valueStride,
              32,
              1,
              true,
            );
            if (gBias) addBiasGradient(rows, count, gBias + biasTile, (<usize>s) << 2);
            if (softCap > 0) capBackward(rows, width);
            gemmPacked(rows, wide, count, slopesOf, SCORE_STRIDE, keys + ((<usize>j) << 5), keyPanel, dQueries, rowStride, 32, 1, true);
            gemmPackedTransposed(
              count,
              dim,
              rows,
              slopesOf,
              SCORE_STRIDE,
              queryPanels,
              PANEL,
              gKey + keyOffset + <usize>j * keyStride,
              keyStride,
              32,
              1,
              true,
            );
          }
          writeRows(rows, dim, dQueries, rowStride, scale, gQuery + token * queryStride + ((<usize>(h * dim)) << 2), queryStride);
        }
        if (gSlopes) store<f32>(gSlopes + ((<usize>h) << 2), load<f32>(gSlopes + ((<usize>h) << 2)) - <f32>dSlope);
        if (gSinks) store<f32>(gSinks + ((<usize>h) << 2), load<f32>(gSinks + ((<usize>h) << 2)) + <f32>dSink);
      }
    }
  }
}

/** Sets `bytes` bytes to 0. */
export function clear(at: usize, bytes: usize): void {
  memory.fill(at, 0, bytes);
}
