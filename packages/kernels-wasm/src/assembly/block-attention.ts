import { gemmPacked, packTransposed } from './gemm';
import { HIDDEN, KEYS, MIXED, QUERIES, SCORE_STRIDE, classify, copyRows, fillPositions, finishRows, hideScores, onlineSoftmax, startRows, packPanels } from './attention-tiles';

// attention in which each block of queries reads a list of key blocks; keys are packed block by block, so that every block starts a panel

/** queries of a block from which on they fill a product by themselves */
export const TOGETHER: i32 = 12;

let blockLength: i32 = 0;
/** keys of a block up to a multiple of 8 */
export let padded: i32 = 0;
export let blockCount: i32 = 0;

export let queryAt: usize = 0; // [T]
export let keyAt: usize = 0; // [blocks][padded], -1 where there is no key
export let keysT: usize = 0; // [blocks][padded / 8][D][8]
export let keysTBlock: usize = 0;
let values: usize = 0; // [blocks][Dv / 8][blockLength][8]
let valuesBlock: usize = 0;
let queries: usize = 0;
let scores: usize = 0;
let out: usize = 0; // of the tile
let maxima: usize = 0;
let sums: usize = 0;
export let tilePlaces: usize = 0; // [QUERIES] positions of the tile's queries
export let tileRows: usize = 0; // [QUERIES] which rows they are
export let firstReader: usize = 0; // [blocks + 1] where the readers of each key block begin
export let readers: usize = 0; // [query blocks * chosen] query blocks, sorted by the key block that they read
let allOut: usize = 0; // [T][heads of a group][Dv up to a multiple of 8]
let allMaxima: usize = 0; // [T][heads of a group]
let allSums: usize = 0;

// @ts-ignore: decorator
@inline
export function wide(dim: i32): i32 {
  return (dim + 7) & ~7;
}

/** Positions and transposed keys, which forward and backward both need; returns the end. */
export function layoutTables(at: usize, t: i32, s: i32, dim: i32, keyBlock: i32): usize {
  blockLength = keyBlock;
  padded = wide(keyBlock);
  blockCount = (s + keyBlock - 1) / keyBlock;
  keysTBlock = <usize>(padded * dim) << 2;
  queryAt = at;
  keyAt = queryAt + (<usize>((t + 3) & ~3) << 2);
  keysT = keyAt + (<usize>(blockCount * padded + 8) << 2);
  return keysT + keysTBlock * blockCount;
}

/** The lists turned round, and which rows a tile holds; returns the end. */
export function layoutReaders(at: usize, entries: i32): usize {
  tilePlaces = at;
  tileRows = tilePlaces + QUERIES * 4;
  firstReader = tileRows + QUERIES * 4;
  readers = firstReader + (<usize>(blockCount + 2) << 2);
  return (readers + (<usize>entries << 2) + 79) & ~15;
}

function layoutForward(at: usize, t: i32, s: i32, dim: i32, valueDim: i32, keyBlock: i32, share: i32, queryBlock: i32, entries: i32): usize {
  values = layoutTables(at, t, s, dim, keyBlock);
  valuesBlock = <usize>(wide(valueDim) * keyBlock) << 2;
  queries = values + valuesBlock * blockCount;
  scores = queries + (<usize>((dim + 3) & ~3) << 2) * QUERIES;
  out = scores + SCORE_STRIDE * QUERIES + 64;
  maxima = out + (<usize>wide(valueDim) << 2) * QUERIES;
  sums = maxima + QUERIES * 4;
  allOut = layoutReaders(sums + QUERIES * 4, entries);
  if (queryBlock >= TOGETHER) return allOut;
  allMaxima = allOut + (<usize>(t * share * wide(valueDim)) << 2);
  allSums = allMaxima + (<usize>(t * share) << 2);
  return allSums + (<usize>(t * share) << 2) + 64;
}

/** Bytes of scratch that blockForward needs; `share` query heads read one key head, whose lists have `entries` places. */
export function blockForwardBytes(t: i32, s: i32, dim: i32, valueDim: i32, keyBlock: i32, share: i32, queryBlock: i32, entries: i32): i32 {
  return <i32>layoutForward(0, t, s, dim, valueDim, keyBlock, share, queryBlock, entries);
}

/** Positions of all queries and of the keys of every block. */
export function fillTables(t: i32, s: i32): void {
  fillPositions(0, t, t, <f32>(s - t), queryAt);
  for (let n = 0; n < blockCount; n++) {
    const first = n * blockLength;
    fillPositions(0, min(blockLength, s - first), padded, <f32>first, keyAt + (<usize>(n * padded) << 2));
  }
}

/** Sorts the query blocks by the key blocks that they read: `lists` [queryBlocks, chosen], below 0 where there is none. */
export function sortReaders(queryBlocks: i32, chosen: i32, lists: usize): void {
  memory.fill(firstReader, 0, (<usize>(blockCount + 2)) << 2);
  const entries = queryBlocks * chosen;
  // counts two places up, then sums: filling moves each start to its own place
  for (let i = 0; i < entries; i++) {
    const n = load<i32>(lists + (<usize>i << 2));
    if (n >= 0) store<i32>(firstReader + (<usize>(n + 2) << 2), load<i32>(firstReader + (<usize>(n + 2) << 2)) + 1);
  }
  for (let n = 2; n <= blockCount + 1; n++) {
    const at = firstReader + (<usize>n << 2);
    store<i32>(at, load<i32>(at) + load<i32>(at - 4));
  }
  for (let i = 0; i < entries; i++) {
    const n = load<i32>(lists + (<usize>i << 2));
    if (n < 0) continue;
    const at = firstReader + (<usize>(n + 1) << 2);
    const place = load<i32>(at);
    store<i32>(readers + (<usize>place << 2), i / chosen);
    store<i32>(at, place + 1);
  }
}

/** Copies a whole number of panels' rows; memory.copy would leave the module for each of them. */
// @ts-ignore: decorator
@inline
function copyFloats(from: usize, to: usize, bytes: usize): void {
  for (let at: usize = 0; at < bytes; at += 32) {
    v128.store(to + at, v128.load(from + at));
    v128.store(to + at, v128.load(from + at, 16), 16);
  }
}

/** One tile of queries reads key block n. */
function readBlock(rows: i32, positions: usize, n: i32, s: i32, dim: i32, valueDim: i32): void {
  const outPadded = wide(valueDim);
  const outStride = <usize>outPadded << 2;
  const rowStride = <usize>((dim + 3) & ~3) << 2;
  const keyPanel = <usize>dim << 5;
  const valuePanel = <usize>blockLength << 5;
  const length = min(blockLength, s - n * blockLength);
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

/** One tile of queries, from anywhere in the sequence, reads key block n. */
export function readBlockScattered(rows: i32, n: i32, s: i32, dim: i32, valueDim: i32): void {
  const outStride = <usize>wide(valueDim) << 2;
  for (let r = 0; r < rows; r++) {
    const at = <usize>r << 2;
    const row = <usize>load<i32>(tileRows + at);
    copyFloats(allOut + outStride * row, out + outStride * r, outStride);
    store<f32>(maxima + at, load<f32>(allMaxima + (row << 2)));
    store<f32>(sums + at, load<f32>(allSums + (row << 2)));
  }
  readBlock(rows, tilePlaces, n, s, dim, valueDim);
  for (let r = 0; r < rows; r++) {
    const at = <usize>r << 2;
    const row = <usize>load<i32>(tileRows + at);
    copyFloats(out + outStride * r, allOut + outStride * row, outStride);
    store<f32>(allMaxima + (row << 2), load<f32>(maxima + at));
    store<f32>(allSums + (row << 2), load<f32>(sums + at));
  }
}

/** Key blocks in turn, each with all queries that read it: few of them stand together, and products of a row or two would be slow. */
function forwardByKeys(
  b: i32, g: i32, t: i32, s: i32, heads: i32, groups: i32, dim: i32, valueDim: i32, queryBlock: i32, chosen: i32, scale: f32, query: usize, lists: usize, output: usize, lse: usize,
): void {
  const share = heads / groups;
  const rowStride = <usize>((dim + 3) & ~3) << 2;
  const outStride = <usize>wide(valueDim) << 2;
  const allRows = t * share;
  sortReaders((t + queryBlock - 1) / queryBlock, chosen, lists);
  memory.fill(allOut, 0, outStride * allRows);
  startRows(allRows, 0, allMaxima, allSums);
  for (let n = 0; n < blockCount; n++) {
    const end = load<i32>(firstReader + (<usize>(n + 1) << 2));
    let rows = 0;
    let before = -1;
    for (let e = load<i32>(firstReader + (<usize>n << 2)); e < end; e++) {
      const part = load<i32>(readers + (<usize>e << 2));
      // a block that a list names twice counts twice: in tiles of their own, since a tile holds a row once
      if (part == before && rows > 0) {
        readBlockScattered(rows, n, s, dim, valueDim);
        rows = 0;
      }
      before = part;
      const last = min(t, (part + 1) * queryBlock) * share;
      for (let row = part * queryBlock * share; row < last; row++) {
        const token = row / share;
        const from = <usize>((b * t + token) * heads + g * share + row - token * share);
        copyRows(1, dim, query + ((from * dim) << 2), 0, scale, queries + rowStride * rows, rowStride);
        store<f32>(tilePlaces + (<usize>rows << 2), load<f32>(queryAt + (<usize>token << 2)));
        store<i32>(tileRows + (<usize>rows << 2), row);
        if (++rows == QUERIES) {
          readBlockScattered(rows, n, s, dim, valueDim);
          rows = 0;
        }
      }
    }
    if (rows > 0) readBlockScattered(rows, n, s, dim, valueDim);
  }
  for (let token = 0; token < t; token++) {
    const own = <usize>(token * share);
    const to = <usize>((b * t + token) * heads + g * share);
    finishRows(share, valueDim, allOut + outStride * own, outStride, allMaxima + (own << 2), allSums + (own << 2), output + ((to * valueDim) << 2), <usize>valueDim << 2, lse + (to << 2), 4);
  }
}

/** Query blocks in turn, each with the key blocks of its list. */
function forwardByQueries(
  b: i32, g: i32, t: i32, s: i32, heads: i32, groups: i32, dim: i32, valueDim: i32, queryBlock: i32, chosen: i32, scale: f32, query: usize, lists: usize, output: usize, lse: usize,
): void {
  const share = heads / groups;
  const rowStride = <usize>((dim + 3) & ~3) << 2;
  const outStride = <usize>wide(valueDim) << 2;
  for (let from = 0; from < t; from += queryBlock) {
    const list = lists + (<usize>((from / queryBlock) * chosen) << 2);
    const last = min(t, from + queryBlock);
    for (let h = g * share; h < (g + 1) * share; h++) {
      for (let i = from; i < last; i += QUERIES) {
        const rows = min(QUERIES, last - i);
        const row = <usize>((b * t + i) * heads + h);
        copyRows(rows, dim, query + ((row * dim) << 2), <usize>(heads * dim) << 2, scale, queries, rowStride);
        memory.fill(out, 0, outStride * rows);
        startRows(rows, 0, maxima, sums);
        for (let c = 0; c < chosen; c++) {
          const n = load<i32>(list + (<usize>c << 2));
          if (n >= 0) readBlock(rows, queryAt + (<usize>i << 2), n, s, dim, valueDim);
        }
        finishRows(rows, valueDim, out, outStride, maxima, sums, output + ((row * valueDim) << 2), <usize>(heads * valueDim) << 2, lse + (row << 2), <usize>heads << 2);
      }
    }
  }
}

/** query [batch, t, heads, dim], key and value [batch, s, groups, .], blocks [batch, groups, queryBlocks, chosen] -> output [batch, t, heads, valueDim], lse [batch, t, heads]. */
export function blockForward(
  batch: i32, t: i32, s: i32, heads: i32, groups: i32, dim: i32, valueDim: i32, queryBlock: i32, keyBlock: i32, chosen: i32, scale: f32,
  query: usize, key: usize, value: usize, blocks: usize, output: usize, lse: usize, scratch: usize,
): void {
  const entries = ((t + queryBlock - 1) / queryBlock) * chosen;
  layoutForward(scratch, t, s, dim, valueDim, keyBlock, heads / groups, queryBlock, entries);
  fillTables(t, s);
  const keyStride = <usize>(groups * dim) << 2;
  const valueStride = <usize>(groups * valueDim) << 2;
  for (let b = 0; b < batch; b++) {
    for (let g = 0; g < groups; g++) {
      for (let n = 0; n < blockCount; n++) {
        const token = <usize>(b * s + n * keyBlock);
        const count = min(keyBlock, s - n * keyBlock);
        packTransposed(dim, count, key + token * keyStride + (<usize>(g * dim) << 2), keyStride, keysT + keysTBlock * n);
        packPanels(count, valueDim, value + token * valueStride + (<usize>(g * valueDim) << 2), valueStride, values + valuesBlock * n, <usize>keyBlock << 5);
      }
      const lists = blocks + (<usize>((b * groups + g) * entries) << 2);
      if (queryBlock < TOGETHER) forwardByKeys(b, g, t, s, heads, groups, dim, valueDim, queryBlock, chosen, scale, query, lists, output, lse);
      else forwardByQueries(b, g, t, s, heads, groups, dim, valueDim, queryBlock, chosen, scale, query, lists, output, lse);
    }
  }
}
