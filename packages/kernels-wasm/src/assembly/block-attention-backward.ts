import { dot, gemmPacked, gemmPackedTransposed, packTransposed } from './gemm';
import { attentionBackwardBytes, buffer, layoutAttentionBackward, softmaxBackward } from './attention-backward';
import { HIDDEN, MIXED, QUERIES, SCORE_STRIDE, classify, copyRows, hideScores, packPanels } from './attention-tiles';
import {
  TOGETHER, blockCount, fillTables, firstReader, keyAt, keysT, keysTBlock, layoutReaders, layoutTables, padded, queryAt, readers, sortReaders, tilePlaces, tileRows, wide,
} from './block-attention';
import { fma, loadSome, splat, storeSome } from './lanes';

// gradients of block attention, by recomputation: tiles of queries and keys as in the forward

const TILE: i32 = 48;

let values: usize = 0; // [blocks][padded / 8][Dv][8]
let valuesBlock: usize = 0;
let keys: usize = 0; // [blocks][D / 8][block length][8]
let keysBlock: usize = 0;
let queryRows: usize = 0;
let queryPanels: usize = 0;
let upstreamRows: usize = 0;
let upstreamPanels: usize = 0;
let dQueries: usize = 0;
let weights: usize = 0;
let slopes: usize = 0;
let lseOf: usize = 0; // [QUERIES] of the tile
let deltaOf: usize = 0;
let allLse: usize = 0; // [T][heads of a group]
let allDelta: usize = 0;

// of the call under way
let blockLength: i32 = 0;
let keyCount: i32 = 0;
let headDim: i32 = 0;
let outDim: i32 = 0;
let factor: f32 = 0;
let rowStride: usize = 0;
let outStride: usize = 0;
let keyStride: usize = 0;
let valueStride: usize = 0;
let gKeys: usize = 0; // gradients of the keys of one batch row and group
let gValues: usize = 0;

const PANEL: usize = QUERIES * 32;

function layout(at: usize, t: i32, s: i32, dim: i32, valueDim: i32, keyBlock: i32, share: i32, queryBlock: i32, entries: i32): usize {
  values = layoutTables(at, t, s, dim, keyBlock);
  valuesBlock = <usize>(padded * valueDim) << 2;
  keys = values + valuesBlock * blockCount;
  keysBlock = <usize>(wide(dim) * keyBlock) << 2;
  const end = layoutAttentionBackward(keys + keysBlock * blockCount + 64, 0, 0, dim, valueDim);
  queryRows = buffer(0);
  queryPanels = buffer(1);
  upstreamRows = buffer(2);
  upstreamPanels = buffer(3);
  dQueries = buffer(4);
  weights = buffer(5);
  slopes = buffer(6);
  lseOf = buffer(7);
  deltaOf = buffer(8);
  if (queryBlock >= TOGETHER) return end;
  allLse = layoutReaders(end, entries);
  allDelta = allLse + (<usize>(t * share) << 2);
  return allDelta + (<usize>(t * share) << 2) + 64;
}

/** Bytes of scratch that blockBackward needs; `share` query heads read one key head, whose lists have `entries` places. */
export function blockBackwardBytes(t: i32, s: i32, dim: i32, valueDim: i32, keyBlock: i32, share: i32, queryBlock: i32, entries: i32): i32 {
  return <i32>layout(0, t, s, dim, valueDim, keyBlock, share, queryBlock, entries);
}

/** What a row's scores are recomputed with: its log-sum-exp, and dOutput . output - dLse. A row that saw nothing has e^(s - Infinity) = 0. */
// @ts-ignore: decorator
@inline
function keepRow(upstream: usize, output: usize, lse: usize, dLse: usize, toLse: usize, toDelta: usize): void {
  const sum = load<f32>(lse);
  store<f32>(toLse, sum == -Infinity ? <f32>Infinity : sum);
  store<f32>(toDelta, sum == -Infinity ? 0 : dot(outDim, upstream, output) - load<f32>(dLse));
}

/** One tile of queries against key block n; the gradient of the queries is added to the tile's, those of keys and values to what they hold. */
export function readBlockBackward(rows: i32, positions: usize, n: i32): void {
  const keyPanelT = <usize>headDim << 5;
  const valuePanelT = <usize>outDim << 5;
  const keyPanel = <usize>blockLength << 5;
  const length = min(blockLength, keyCount - n * blockLength);
  for (let o = 0; o < length; o += TILE) {
    const count = min(TILE, length - o);
    const width = wide(count);
    const places = keyAt + (<usize>(n * padded + o) << 2);
    const sight = classify(positions, rows, places, count);
    if (sight == HIDDEN) continue;
    const first = <usize>(n * blockLength + o);
    gemmPacked(rows, width, headDim, queryRows, rowStride, keysT + keysTBlock * n + <usize>(o >> 3) * keyPanelT, keyPanelT, weights, SCORE_STRIDE, 32, 1, false);
    if (sight == MIXED) hideScores(weights, rows, width, positions, places);
    gemmPacked(rows, width, outDim, upstreamRows, outStride, values + valuesBlock * n + <usize>(o >> 3) * valuePanelT, valuePanelT, slopes, SCORE_STRIDE, 32, 1, false);
    softmaxBackward(rows, width, positions, places, false);
    gemmPackedTransposed(count, outDim, rows, weights, SCORE_STRIDE, upstreamPanels, PANEL, gValues + first * valueStride, valueStride, 32, 1, true);
    gemmPacked(rows, wide(headDim), count, slopes, SCORE_STRIDE, keys + keysBlock * n + (<usize>o << 5), keyPanel, dQueries, rowStride, 32, 1, true);
    gemmPackedTransposed(count, headDim, rows, slopes, SCORE_STRIDE, queryPanels, PANEL, gKeys + first * keyStride, keyStride, 32, 1, true);
  }
}

/** to += factor * from */
function addRow(from: usize, to: usize): void {
  const s = splat(factor);
  let d = 0;
  for (; d + 4 <= headDim; d += 4, from += 16, to += 16) v128.store(to, fma(s, v128.load(from), v128.load(to)));
  if (d < headDim) storeSome(to, fma(s, v128.load(from), loadSome(to, headDim - d)), headDim - d);
}

/** One tile of queries, from anywhere in the sequence, against key block n; `firstRow` is row 0 of the group, `share` its heads. */
export function readBlockScatteredBackward(rows: i32, n: i32, share: i32, heads: i32, firstRow: i32, gQuery: usize): void {
  packPanels(rows, headDim, queryRows, rowStride, queryPanels, PANEL);
  packPanels(rows, outDim, upstreamRows, outStride, upstreamPanels, PANEL);
  memory.fill(dQueries, 0, rowStride * rows);
  for (let r = 0; r < rows; r++) {
    const at = <usize>r << 2;
    const row = <usize>load<i32>(tileRows + at) << 2;
    store<f32>(lseOf + at, load<f32>(allLse + row));
    store<f32>(deltaOf + at, load<f32>(allDelta + row));
  }
  readBlockBackward(rows, tilePlaces, n);
  for (let r = 0; r < rows; r++) {
    const row = load<i32>(tileRows + (<usize>r << 2));
    const token = row / share;
    const to = <usize>(firstRow + token * heads + row - token * share);
    addRow(dQueries + rowStride * r, gQuery + ((to * headDim) << 2));
  }
}

/** Key blocks in turn, each with all queries that read it. */
function backwardByKeys(
  t: i32, share: i32, heads: i32, firstRow: i32, queryBlock: i32, chosen: i32, query: usize, lists: usize, output: usize, lse: usize, dOutput: usize, dLse: usize, gQuery: usize,
): void {
  sortReaders((t + queryBlock - 1) / queryBlock, chosen, lists);
  for (let token = 0; token < t; token++) {
    for (let h = 0; h < share; h++) {
      const from = <usize>(firstRow + token * heads + h);
      const own = <usize>(token * share + h) << 2;
      const place = (from * outDim) << 2;
      keepRow(dOutput + place, output + place, lse + (from << 2), dLse + (from << 2), allLse + own, allDelta + own);
    }
  }
  for (let n = 0; n < blockCount; n++) {
    const end = load<i32>(firstReader + (<usize>(n + 1) << 2));
    let rows = 0;
    for (let e = load<i32>(firstReader + (<usize>n << 2)); e < end; e++) {
      const part = load<i32>(readers + (<usize>e << 2));
      const last = min(t, (part + 1) * queryBlock) * share;
      for (let row = part * queryBlock * share; row < last; row++) {
        const token = row / share;
        const from = <usize>(firstRow + token * heads + row - token * share);
        copyRows(1, headDim, query + ((from * headDim) << 2), 0, factor, queryRows + rowStride * rows, rowStride);
        copyRows(1, outDim, dOutput + ((from * outDim) << 2), 0, 1, upstreamRows + outStride * rows, outStride);
        store<f32>(tilePlaces + (<usize>rows << 2), load<f32>(queryAt + (<usize>token << 2)));
        store<i32>(tileRows + (<usize>rows << 2), row);
        if (++rows == QUERIES) {
          readBlockScatteredBackward(rows, n, share, heads, firstRow, gQuery);
          rows = 0;
        }
      }
    }
    if (rows > 0) readBlockScatteredBackward(rows, n, share, heads, firstRow, gQuery);
  }
}

/** Query blocks in turn, each with the key blocks of its list. */
function backwardByQueries(
  t: i32, share: i32, heads: i32, firstRow: i32, queryBlock: i32, chosen: i32, query: usize, lists: usize, output: usize, lse: usize, dOutput: usize, dLse: usize, gQuery: usize,
): void {
  for (let from = 0; from < t; from += queryBlock) {
    const list = lists + (<usize>((from / queryBlock) * chosen) << 2);
    const last = min(t, from + queryBlock);
    for (let h = 0; h < share; h++) {
      for (let i = from; i < last; i += QUERIES) {
        const rows = min(QUERIES, last - i);
        const row = <usize>(firstRow + i * heads + h);
        copyRows(rows, headDim, query + ((row * headDim) << 2), <usize>(heads * headDim) << 2, factor, queryRows, rowStride);
        packPanels(rows, headDim, queryRows, rowStride, queryPanels, PANEL);
        copyRows(rows, outDim, dOutput + ((row * outDim) << 2), <usize>(heads * outDim) << 2, 1, upstreamRows, outStride);
        packPanels(rows, outDim, upstreamRows, outStride, upstreamPanels, PANEL);
        memory.fill(dQueries, 0, rowStride * rows);
        for (let r = 0; r < rows; r++) {
          const own = row + r * heads;
          const at = <usize>r << 2;
          keepRow(upstreamRows + outStride * r, output + ((own * outDim) << 2), lse + (own << 2), dLse + (own << 2), lseOf + at, deltaOf + at);
        }
        for (let c = 0; c < chosen; c++) {
          const n = load<i32>(list + (<usize>c << 2));
          if (n >= 0) readBlockBackward(rows, queryAt + (<usize>i << 2), n);
        }
        for (let r = 0; r < rows; r++) addRow(dQueries + rowStride * r, gQuery + (((row + r * heads) * headDim) << 2));
      }
    }
  }
}

/** Gradients of blockForward, all added to what the pointers hold (zeros). */
export function blockBackward(
  batch: i32, t: i32, s: i32, heads: i32, groups: i32, dim: i32, valueDim: i32, queryBlock: i32, keyBlock: i32, chosen: i32, scale: f32,
  query: usize, key: usize, value: usize, blocks: usize, output: usize, lse: usize, dOutput: usize, dLse: usize, gQuery: usize, gKey: usize, gValue: usize, scratch: usize,
): void {
  const share = heads / groups;
  const entries = ((t + queryBlock - 1) / queryBlock) * chosen;
  layout(scratch, t, s, dim, valueDim, keyBlock, share, queryBlock, entries);
  fillTables(t, s);
  blockLength = keyBlock;
  keyCount = s;
  headDim = dim;
  outDim = valueDim;
  factor = scale;
  rowStride = <usize>wide(dim) << 2;
  outStride = <usize>wide(valueDim) << 2;
  keyStride = <usize>(groups * dim) << 2;
  valueStride = <usize>(groups * valueDim) << 2;
  for (let b = 0; b < batch; b++) {
    for (let g = 0; g < groups; g++) {
      const keyOffset = <usize>(b * s) * keyStride + (<usize>(g * dim) << 2);
      const valueOffset = <usize>(b * s) * valueStride + (<usize>(g * valueDim) << 2);
      gKeys = gKey + keyOffset;
      gValues = gValue + valueOffset;
      for (let n = 0; n < blockCount; n++) {
        const first = <usize>(n * keyBlock);
        const count = min(keyBlock, s - n * keyBlock);
        packTransposed(dim, count, key + keyOffset + first * keyStride, keyStride, keysT + keysTBlock * n);
        packPanels(count, dim, key + keyOffset + first * keyStride, keyStride, keys + keysBlock * n, <usize>keyBlock << 5);
        packTransposed(valueDim, count, value + valueOffset + first * valueStride, valueStride, values + valuesBlock * n);
      }
      const lists = blocks + (<usize>((b * groups + g) * entries) << 2);
      const firstRow = b * t * heads + g * share;
      if (queryBlock < TOGETHER) backwardByKeys(t, share, heads, firstRow, queryBlock, chosen, query, lists, output, lse, dOutput, dLse, gQuery);
      else backwardByQueries(t, share, heads, firstRow, queryBlock, chosen, query, lists, output, lse, dOutput, dLse, gQuery);
    }
  }
}
