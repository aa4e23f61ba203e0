import { gemm, packBytes } from './gemm';

// products of rows with the matrices of their experts: rows are sorted by expert, gathered side by side, multiplied at once and put back

/** rows of an expert that are gathered at a time */
const ROWS: i32 = 512;

let ends: usize = 0; // [E], where the rows of each expert end in `order`
let order: usize = 0; // [N], rows by expert, each expert's in their own order
let inputs: usize = 0; // [ROWS][D]
let outputs: usize = 0; // [ROWS][F]
let results: usize = 0; // [ROWS][D]
let pack: usize = 0;

// @ts-ignore: decorator
@inline
function floats(count: i32): usize {
  return <usize>((count + 15) & ~15) << 2;
}

function layout(at: usize, rows: i32, experts: i32, inner: i32, outer: i32): usize {
  const block = min(rows, ROWS);
  ends = at;
  order = ends + floats(experts);
  inputs = order + floats(rows);
  outputs = inputs + floats(block * inner);
  results = outputs + floats(block * outer);
  pack = results + floats(block * inner);
  return pack + <usize>max(packBytes(outer, max(inner, block)), packBytes(inner, outer));
}

/** Bytes of scratch that the products need. */
export function expertBytes(rows: i32, experts: i32, inner: i32, outer: i32): i32 {
  return <i32>layout(0, rows, experts, inner, outer);
}

/** Counting sort of the rows by expert, stable; the rows of `to` that have none become zeros. */
export function sortByExpert(rows: i32, experts: i32, ids: usize, width: i32, to: usize): void {
  memory.fill(ends, 0, (<usize>experts) << 2);
  const bytes = (<usize>width) << 2;
  for (let n = 0; n < rows; n++) {
    const id = load<i32>(ids + ((<usize>n) << 2));
    if (<u32>id < <u32>experts) {
      const count = ends + ((<usize>id) << 2);
      store<i32>(count, load<i32>(count) + 1);
    } else memory.fill(to + <usize>n * bytes, 0, bytes);
  }
  let start = 0;
  for (let e = 0; e < experts; e++) {
    const count = load<i32>(ends + ((<usize>e) << 2));
    store<i32>(ends + ((<usize>e) << 2), start);
    start += count;
  }
  for (let n = 0; n < rows; n++) {
    const id = load<i32>(ids + ((<usize>n) << 2));
    if (<u32>id >= <u32>experts) continue;
    const next = ends + ((<usize>id) << 2);
    const place = load<i32>(next);
    store<i32>(order + ((<usize>place) << 2), n);
    store<i32>(next, place + 1);
  }
}

// @ts-ignore: decorator
@inline
function rowAt(place: i32): usize {
  return <usize>load<i32>(order + ((<usize>place) << 2));
}

/** Copies `count` sorted rows side by side. */
export function gatherSorted(from: i32, count: i32, width: i32, rows: usize, to: usize): void {
  const bytes = (<usize>width) << 2;
  for (let i = 0; i < count; i++, to += bytes) memory.copy(to, rows + rowAt(from + i) * bytes, bytes);
}

/** Copies rows that lie side by side to their places. */
export function scatterSorted(from: i32, count: i32, width: i32, rows: usize, to: usize): void {
  const bytes = (<usize>width) << 2;
  for (let i = 0; i < count; i++, rows += bytes) memory.copy(to + rowAt(from + i) * bytes, rows, bytes);
}

/** output[n] = input[n] weight[ids[n]], zeros where there is no such expert. */
export function expertForward(rows: i32, experts: i32, inner: i32, outer: i32, input: usize, ids: usize, weight: usize, output: usize, scratch: usize): void {
  layout(scratch, rows, experts, inner, outer);
  sortByExpert(rows, experts, ids, outer, output);
  const lda = (<usize>inner) << 2;
  const ldb = (<usize>outer) << 2;
  let from = 0;
  for (let e = 0; e < experts; e++, weight += <usize>inner * ldb) {
    const end = load<i32>(ends + ((<usize>e) << 2));
    // one or two rows are multiplied where they lie
    if (end - from <= 2) {
      for (; from < end; from++) {
        const n = rowAt(from);
        gemm(1, outer, inner, input + n * lda, lda, false, weight, ldb, false, output + n * ldb, ldb, 1, false, pack);
      }
    }
    while (from < end) {
      const count = min(ROWS, end - from);
      gatherSorted(from, count, inner, input, inputs);
      gemm(count, outer, inner, inputs, lda, false, weight, ldb, false, outputs, ldb, 1, false, pack);
      scatterSorted(from, count, outer, outputs, output);
      from += count;
    }
  }
}

/** Gradients of expertForward by input and weight. */
export function expertBackward(rows: i32, experts: i32, inner: i32, outer: i32, input: usize, ids: usize, weight: usize, dOutput: usize, gInput: usize, gWeight: usize, scratch: usize): void {
  layout(scratch, rows, experts, inner, outer);
  sortByExpert(rows, experts, ids, inner, gInput);
  const lda = (<usize>inner) << 2;
  const ldb = (<usize>outer) << 2;
  const matrix = <usize>inner * ldb;
  let from = 0;
  for (let e = 0; e < experts; e++, weight += matrix, gWeight += matrix) {
    const end = load<i32>(ends + ((<usize>e) << 2));
    if (from == end) memory.fill(gWeight, 0, matrix);
    let add = false;
    while (from < end) {
      const count = min(ROWS, end - from);
      gatherSorted(from, count, inner, input, inputs);
      gatherSorted(from, count, outer, dOutput, outputs);
      gemm(count, inner, outer, outputs, ldb, false, weight, ldb, true, results, lda, 1, false, pack);
      scatterSorted(from, count, inner, results, gInput);
      gemm(inner, outer, count, inputs, lda, true, outputs, ldb, false, gWeight, ldb, 1, add, pack);
      add = true;
      from += count;
    }
  }
}
