import { gemmPacked, packTransposed } from './gemm';
import { attendFew, isFew, layoutFew } from './attention-few';
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
  finishRows,
  onlineSoftmax,
  packPanels,
  softCap,
  startRows,
  windowed,
} from './attention-tiles';

let queryAt: usize = 0; // [T] positions
let keyAt: usize = 0; // [S up to a multiple of KEYS] positions, -1 beyond
let keysT: usize = 0; // [S / 8][D][8]
let values: usize = 0; // [Dv / 8][S][8]
let queries: usize = 0; // [QUERIES][D]
let scores: usize = 0; // [QUERIES][KEYS]
let out: usize = 0; // [QUERIES][Dv]
let maxima: usize = 0;
let sums: usize = 0;

function layout(at: usize, t: i32, s: i32, dim: i32, valueDim: i32): usize {
  const padded = <usize>(s + KEYS + 8);
  queryAt = at;
  keyAt = queryAt + ((<usize>((t + 3) & ~3)) << 2);
  keysT = keyAt + (padded << 2);
  values = keysT + padded * dim * 4;
  queries = values + <usize>((valueDim + 7) & ~7) * s * 4;
  scores = queries + <usize>((dim + 3) & ~3) * QUERIES * 4;
  out = scores + SCORE_STRIDE * QUERIES + 64;
  maxima = out + <usize>((valueDim + 7) & ~7) * QUERIES * 4;
  sums = maxima + QUERIES * 4;
  return sums + QUERIES * 4 + 64;
}

/** Bytes of scratch that attentionForward needs. */
export function attentionForwardBytes(t: i32, s: i32, heads: i32, groups: i32, dim: i32, valueDim: i32): i32 {
  return <i32>(isFew(t, heads, groups) ? layoutFew(0, t, s, heads, dim, valueDim) : layout(0, t, s, dim, valueDim));
}

/**
 * Softmax attention: query [batch, t, heads, dim], key [batch, s, groups, dim], value [batch, s, groups, valueDim] -> output [batch, t, heads, valueDim], lse [batch, t, heads].
 * The rule is set by attentionRule. Bias strides (bytes per batch row and per head) are 0 where it is broadcast.
 */
export function attentionForward(
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
  scratch: usize,
): void {
  const few = isFew(t, heads, groups);
  if (few) layoutFew(scratch, t, s, heads, dim, valueDim);
  else layout(scratch, t, s, dim, valueDim);
  const queryStride = (<usize>(heads * dim)) << 2;
  const keyStride = (<usize>(groups * dim)) << 2;
  const valueStride = (<usize>(groups * valueDim)) << 2;
  const outputStride = (<usize>(heads * valueDim)) << 2;
  const rowStride = (<usize>((dim + 3) & ~3)) << 2;
  const outPadded = (valueDim + 7) & ~7;
  const outStride = (<usize>outPadded) << 2;
  const keyPanel = (<usize>dim) << 5;
  const valuePanel = (<usize>s) << 5;
  const share = heads / groups;
  // short tiles waste less at the edges of a window
  const tile = s >= 1024 && !windowed ? KEYS : 48;
  for (let b = 0; b < batch; b++) {
    const queryPlaces = queryPositions ? queryPositions + ((<usize>(b * t)) << 2) : 0;
    const keyPlaces = keyPositions ? keyPositions + ((<usize>(b * s)) << 2) : 0;
    if (few) {
      attendFew(
        t,
        s,
        heads,
        groups,
        dim,
        valueDim,
        scale,
        query + <usize>(b * t) * queryStride,
        key + <usize>(b * s) * keyStride,
        value + <usize>(b * s) * valueStride,
        queryPlaces,
        keyPlaces,
        bias ? bias + <usize>b * biasBatch : 0,
        biasHead,
        sinkLogits,
        slopes,
        output + <usize>(b * t) * outputStride,
        lse + ((<usize>(b * t * heads)) << 2),
      );
      continue;
    }
    fillPositions(queryPlaces, t, t, <f32>(s - t), queryAt);
    fillPositions(keyPlaces, s, s + 8, 0, keyAt);
    for (let g = 0; g < groups; g++) {
      const keyHead = key + <usize>(b * s) * keyStride + ((<usize>(g * dim)) << 2);
      const valueHead = value + <usize>(b * s) * valueStride + ((<usize>(g * valueDim)) << 2);
      packTransposed(dim, s, keyHead, keyStride, keysT);
      packPanels(s, valueDim, valueHead, valueStride, values, valuePanel);
      for (let h = g * share; h < (g + 1) * share; h++) {
        const slope = slopes ? load<f32>(slopes + ((<usize>h) << 2)) : 0;
        const biasRows = bias ? bias + <usize>b * biasBatch + <usize>h * biasHead : 0;
        for (let i = 0; i < t; i += QUERIES) {
          const rows = min(QUERIES, t - i);
          const token = <usize>(b * t + i);
          const positions = queryAt + ((<usize>i) << 2);
          copyRows(rows, dim, query + token * queryStride + ((<usize>(h * dim)) << 2), queryStride, scale, queries, rowStride);
          memory.fill(out, 0, outStride * rows);
          startRows(rows, sinkLogits ? sinkLogits + ((<usize>h) << 2) : 0, maxima, sums);
          for (let j = 0; j < s; j += tile) {
            const count = min(tile, s - j);
            const places = keyAt + ((<usize>j) << 2);
            const sight = classify(positions, rows, places, count);
            if (sight == HIDDEN) continue;
            const width = (count + 7) & ~7;
            gemmPacked(rows, width, dim, queries, rowStride, keysT + <usize>(j >> 3) * keyPanel, keyPanel, scores, SCORE_STRIDE, 32, 1, false);
            if (softCap > 0) capScores(scores, rows, width);
            if (bias != 0 || slope != 0)
              addBiases(
                scores,
                rows,
                count,
                positions,
                places,
                slope,
                biasRows ? biasRows + ((<usize>(i * s + j)) << 2) : 0,
                (<usize>s) << 2,
              );
            if (sight == MIXED) hideScores(scores, rows, width, positions, places);
            onlineSoftmax(scores, rows, width, maxima, sums, out, outStride);
            gemmPacked(rows, outPadded, count, scores, SCORE_STRIDE, values + ((<usize>j) << 5), valuePanel, out, outStride, 32, 1, true);
          }
          finishRows(
            rows,
            valueDim,
            out,
            outStride,
            maxima,
            sums,
            output + token * outputStride + ((<usize>(h * valueDim)) << 2),
            outputStride,
            lse + ((<usize>((b * t + i) * heads + h)) << 2),
            (<usize>heads) << 2,
          );
        }
      }
    }
  }
}
