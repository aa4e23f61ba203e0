import { dot, gemmPacked, gemmPackedTransposed, packTransposed } from './gemm';
import { attentionBackwardBytes, buffer, layoutAttentionBackward, softmaxBackward } from './attention-backward';
import { HIDDEN, KEYS, MIXED, QUERIES, SCORE_STRIDE, classify, copyRows, fillPositions, finishRows, hideScores, onlineSoftmax, packPanels, writeRows } from './attention-tiles';

// attention in which each block of queries reads a list of key blocks; keys are packed block by block, so that every block starts a panel

const TILE: i32 = 48;

let blockLength: i32 = 0;
let padded: i32 = 0; // keys of a block up to a multiple of 8
let blockCount: i32 = 0;

let queryAt: usize = 0; // [T]
let keyAt: usize = 0; // [blocks][padded], -1 where there is no key
let keysT: usize = 0; // [blocks][padded / 8][D][8]
let values: usize = 0; // forward: [blocks][Dv / 8][blockLength][8]; backward: [blocks][padded / 8][Dv][8]
let keys: usize = 0; // backward: [blocks][D / 8][blockLength][8]
let keysTBlock: usize = 0;
let valuesBlock: usize = 0;
let keysBlock: usize = 0;
let queries: usize = 0;
let scores: usize = 0;
let out: usize = 0;
let maxima: usize = 0;
let sums: usize = 0;

// @ts-ignore: decorator
@inline
function wide(dim: i32): i32 {
  return (dim + 7) & ~7;
}

function layoutTables(at: usize, t: i32, s: i32, dim: i32, keyBlock: i32): usize {
  blockLength = keyBlock;
  padded = wide(keyBlock);
  blockCount = (s + keyBlock - 1) / keyBlock;
  keysTBlock = <usize>(padded * dim) << 2;
  queryAt = at;
  keyAt = queryAt + (<usize>((t + 3) & ~3) << 2);
  keysT = keyAt + (<usize>(blockCount * padded + 8) << 2);
  return keysT + keysTBlock * blockCount;
}

function layoutForward(at: usize, t: i32, s: i32, dim: i32, valueDim: i32, keyBlock: i32): usize {
  values = layoutTables(at, t, s, dim, keyBlock);
  valuesBlock = <usize>(wide(valueDim) * keyBlock) << 2;
  queries = values + valuesBlock * blockCount;
  scores = queries + (<usize>((dim + 3) & ~3) << 2) * QUERIES;
  out = scores + SCORE_STRIDE * QUERIES + 64;
  maxima = out + (<usize>wide(valueDim) << 2) * QUERIES;
  sums = maxima + QUERIES * 4;
  return sums + QUERIES * 4 + 64;
}

function layoutBackward(at: usize, t: i32, s: i32, dim: i32, valueDim: i32, keyBlock: i32): usize {
  values = layoutTables(at, t, s, dim, keyBlock);
  valuesBlock = <usize>(padded * valueDim) << 2;
  keys = values + valuesBlock * blockCount;
  keysBlock = <usize>(wide(dim) * keyBlock) << 2;
  return keys + keysBlock * blockCount + 64;
}

/** Bytes of scratch that blockForward needs. */
export function blockForwardBytes(t: i32, s: i32, dim: i32, valueDim: i32, keyBlock: i32): i32 {
  return <i32>layoutForward(0, t, s, dim, valueDim, keyBlock);
}

/** Bytes of scratch that blockBackward needs. */
export function blockBackwardBytes(t: i32, s: i32, dim: i32, valueDim: i32, keyBlock: i32): i32 {
  return <i32>layoutBackward(0, t, s, dim, valueDim, keyBlock) + attentionBackwardBytes(0, 0, dim, valueDim);
}

function fillTables(t: i32, s: i32): void {
  fillPositions(0, t, t, <f32>(s - t), queryAt);
  for (let n = 0; n < blockCount; n++) {
    const first = n * blockLength;
    fillPositions(0, min(blockLength, s - first), padded, <f32>first, keyAt + (<usize>(n * padded) << 2));
  }
}

/** query [batch, t, heads, dim], key and value [batch, s, groups, .], blocks [batch, groups, queryBlocks, chosen] -> output [batch, t, heads, valueDim], lse [batch, t, heads]. */
export function blockForward(
  batch: i32, t: i32, s: i32, heads: i32, groups: i32, dim: i32, valueDim: i32, queryBlock: i32, keyBlock: i32, chosen: i32, scale: f32,
  query: usize, key: usize, value: usize, blocks: usize, output: usize, lse: usize, scratch: usize,
): void {
  layoutForward(scratch, t, s, dim, valueDim, keyBlock);
  fillTables(t, s);
  const queryStride = <usize>(heads * dim) << 2;
  const keyStride = <usize>(groups * dim) << 2;
  const valueStride = <usize>(groups * valueDim) << 2;
  const outputStride = <usize>(heads * valueDim) << 2;
  const rowStride = <usize>((dim + 3) & ~3) << 2;
  const outPadded = wide(valueDim);
  const outStride = <usize>outPadded << 2;
  const keyPanel = <usize>dim << 5;
  const valuePanel = <usize>keyBlock << 5;
  const share = heads / groups;
  const queryBlocks = (t + queryBlock - 1) / queryBlock;
  for (let b = 0; b < batch; b++) {
    for (let g = 0; g < groups; g++) {
      for (let n = 0; n < blockCount; n++) {
        const token = <usize>(b * s + n * keyBlock);
        const count = min(keyBlock, s - n * keyBlock);
        packTransposed(dim, count, key + token * keyStride + (<usize>(g * dim) << 2), keyStride, keysT + keysTBlock * n);
        packPanels(count, valueDim, value + token * valueStride + (<usize>(g * valueDim) << 2), valueStride, values + valuesBlock * n, valuePanel);
      }
      for (let part = 0; part < queryBlocks; part++) {
        const list = blocks + (<usize>(((b * groups + g) * queryBlocks + part) * chosen) << 2);
        const last = min(t, (part + 1) * queryBlock);
        for (let h = g * share; h < (g + 1) * share; h++) {
          for (let i = part * queryBlock; i < last; i += QUERIES) {
            const rows = min(QUERIES, last - i);
            const token = <usize>(b * t + i);
            const positions = queryAt + (<usize>i << 2);
            copyRows(rows, dim, query + token * queryStride + (<usize>(h * dim) << 2), queryStride, scale, queries, rowStride);
            memory.fill(out, 0, outStride * rows);
            memory.fill(sums, 0, QUERIES * 4);
            for (let r = 0; r < rows; r++) store<f32>(maxima + (<usize>r << 2), -Infinity);
            for (let c = 0; c < chosen; c++) {
              const n = load<i32>(list + (<usize>c << 2));
              if (n < 0) continue;
              const length = min(keyBlock, s - n * keyBlock);
              for (let o = 0; o < length; o += KEYS) {
                const count = min(KEYS, length - o);
                const width = wide(count);
                const places = keyAt + (<usize>(n * padded + o) << 2);
                const sight = classify(positions, rows, places, count);
                if (sight == HIDDEN) continue;
                gemmPacked(rows, width, dim, queries, rowStride, keysT + keysTBlock * n + <usize>(o >> 3) * keyPanel, keyPanel, scores, SCORE_STRIDE, 32, 1, false);
                if (sight == MIXED) hideScores(scores, rows, width, positions, places);
                onlineSoftmax(scores, rows, width, maxima, sums, out, outStride);
                gemmPacked(rows, outPadded, count, scores, SCORE_STRIDE, values + valuesBlock * n + (<usize>o << 5), valuePanel, out, outStride, 32, 1, true);
              }
            }
            const row = (b * t + i) * heads + h;
            finishRows(rows, valueDim, out, outStride, maxima, sums, output + (<usize>(row * valueDim) << 2), outputStride, lse + (<usize>row << 2), <usize>heads << 2);
          }
        }
      }
    }
  }
}

/** Gradients of blockForward; those of key and value are added to (zeros). */
export function blockBackward(
  batch: i32, t: i32, s: i32, heads: i32, groups: i32, dim: i32, valueDim: i32, queryBlock: i32, keyBlock: i32, chosen: i32, scale: f32,
  query: usize, key: usize, value: usize, blocks: usize, output: usize, lse: usize, dOutput: usize, dLse: usize, gQuery: usize, gKey: usize, gValue: usize, scratch: usize,
): void {
  layoutAttentionBackward(layoutBackward(scratch, t, s, dim, valueDim, keyBlock), 0, 0, dim, valueDim);
  fillTables(t, s);
  const queryRows = buffer(0);
  const queryPanels = buffer(1);
  const upstreamRows = buffer(2);
  const upstreamPanels = buffer(3);
  const dQueries = buffer(4);
  const weights = buffer(5);
  const slopes = buffer(6);
  const lseOf = buffer(7);
  const deltaOf = buffer(8);
  const queryStride = <usize>(heads * dim) << 2;
  const keyStride = <usize>(groups * dim) << 2;
  const valueStride = <usize>(groups * valueDim) << 2;
  const outputStride = <usize>(heads * valueDim) << 2;
  const dimWide = wide(dim);
  const rowStride = <usize>dimWide << 2;
  const outStride = <usize>wide(valueDim) << 2;
  const keyPanelT = <usize>dim << 5;
  const valuePanelT = <usize>valueDim << 5;
  const keyPanel = <usize>keyBlock << 5;
  const queryPanel = QUERIES * 32;
  const share = heads / groups;
  const queryBlocks = (t + queryBlock - 1) / queryBlock;
  for (let b = 0; b < batch; b++) {
    for (let g = 0; g < groups; g++) {
      const keyOffset = <usize>(b * s) * keyStride + (<usize>(g * dim) << 2);
      const valueOffset = <usize>(b * s) * valueStride + (<usize>(g * valueDim) << 2);
      for (let n = 0; n < blockCount; n++) {
        const first = <usize>(n * keyBlock);
        const count = min(keyBlock, s - n * keyBlock);
        packTransposed(dim, count, key + keyOffset + first * keyStride, keyStride, keysT + keysTBlock * n);
        packPanels(count, dim, key + keyOffset + first * keyStride, keyStride, keys + keysBlock * n, keyPanel);
        packTransposed(valueDim, count, value + valueOffset + first * valueStride, valueStride, values + valuesBlock * n);
      }
      for (let part = 0; part < queryBlocks; part++) {
        const list = blocks + (<usize>(((b * groups + g) * queryBlocks + part) * chosen) << 2);
        const last = min(t, (part + 1) * queryBlock);
        for (let h = g * share; h < (g + 1) * share; h++) {
          for (let i = part * queryBlock; i < last; i += QUERIES) {
            const rows = min(QUERIES, last - i);
            const row = (b * t + i) * heads + h;
            const positions = queryAt + (<usize>i << 2);
            copyRows(rows, dim, query + (<usize>(row * dim) << 2), queryStride, scale, queryRows, rowStride);
            packPanels(rows, dim, queryRows, rowStride, queryPanels, queryPanel);
            copyRows(rows, valueDim, dOutput + (<usize>(row * valueDim) << 2), outputStride, 1, upstreamRows, outStride);
            packPanels(rows, valueDim, upstreamRows, outStride, upstreamPanels, queryPanel);
            memory.fill(dQueries, 0, rowStride * rows);
            for (let r = 0; r < rows; r++) {
              const place = <usize>(row + r * heads) << 2;
              const sum = load<f32>(lse + place);
              const along = dot(valueDim, upstreamRows + outStride * r, output + place * valueDim);
              store<f32>(lseOf + (<usize>r << 2), sum == -Infinity ? <f32>Infinity : sum);
              store<f32>(deltaOf + (<usize>r << 2), sum == -Infinity ? 0 : along - load<f32>(dLse + place));
            }
            for (let c = 0; c < chosen; c++) {
              const n = load<i32>(list + (<usize>c << 2));
              if (n < 0) continue;
              const length = min(keyBlock, s - n * keyBlock);
              for (let o = 0; o < length; o += TILE) {
                const count = min(TILE, length - o);
                const width = wide(count);
                const places = keyAt + (<usize>(n * padded + o) << 2);
                const sight = classify(positions, rows, places, count);
                if (sight == HIDDEN) continue;
                const first = <usize>(n * keyBlock + o);
                gemmPacked(rows, width, dim, queryRows, rowStride, keysT + keysTBlock * n + <usize>(o >> 3) * keyPanelT, keyPanelT, weights, SCORE_STRIDE, 32, 1, false);
                if (sight == MIXED) hideScores(weights, rows, width, positions, places);
                gemmPacked(rows, width, valueDim, upstreamRows, outStride, values + valuesBlock * n + <usize>(o >> 3) * valuePanelT, valuePanelT, slopes, SCORE_STRIDE, 32, 1, false);
                softmaxBackward(rows, width, positions, places, false);
                gemmPackedTransposed(count, valueDim, rows, weights, SCORE_STRIDE, upstreamPanels, queryPanel, gValue + valueOffset + first * valueStride, valueStride, 32, 1, true);
                gemmPacked(rows, dimWide, count, slopes, SCORE_STRIDE, keys + keysBlock * n + (<usize>o << 5), keyPanel, dQueries, rowStride, 32, 1, true);
                gemmPackedTransposed(count, dim, rows, slopes, SCORE_STRIDE, queryPanels, queryPanel, gKey + keyOffset + first * keyStride, keyStride, 32, 1, true);
              }
            }
            writeRows(rows, dim, dQueries, rowStride, scale, gQuery + (<usize>(row * dim) << 2), queryStride);
          }
        }
      }
    }
  }
}
