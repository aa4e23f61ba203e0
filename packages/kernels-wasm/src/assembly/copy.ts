// strided copies inside the heap: slices, joins, repetitions and transpositions

/** Copies `bytes` bytes; short runs without the call that memory.copy costs. */
// @ts-ignore: decorator
@inline
function copyRun(to: usize, from: usize, bytes: i32): void {
  if (bytes > 512) {
    memory.copy(to, from, <usize>bytes);
    return;
  }
  const end = to + <usize>bytes;
  while (to + 16 <= end) {
    v128.store(to, v128.load(from));
    to += 16;
    from += 16;
  }
  while (to + 4 <= end) {
    store<u32>(to, load<u32>(from));
    to += 4;
    from += 4;
  }
  while (to < end) {
    store<u8>(to, load<u8>(from));
    to++;
    from++;
  }
}

/** Copies n0 x n1 runs of `bytes` bytes, with a stride per axis on either side. */
export function copyRuns(n0: i32, n1: i32, bytes: i32, from: usize, from0: usize, from1: usize, to: usize, to0: usize, to1: usize): void {
  for (let i = 0; i < n0; i++) {
    let source = from;
    let target = to;
    for (let j = 0; j < n1; j++) {
      copyRun(target, source, bytes);
      source += from1;
      target += to1;
    }
    from += from0;
    to += to0;
  }
}

/** Transposes the 4x4 words at `from` (rows `row` apart) to `to` (rows `toRow` apart). */
// @ts-ignore: decorator
@inline
function transpose4x4(from: usize, row: usize, to: usize, toRow: usize): void {
  const a = v128.load(from);
  const b = v128.load(from + row);
  const c = v128.load(from + 2 * row);
  const d = v128.load(from + 3 * row);
  const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
  const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const abHigh = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
  const cdHigh = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
  v128.store(to + toRow, v128.shuffle<i64>(ab, cd, 1, 3));
  v128.store(to + 2 * toRow, v128.shuffle<i64>(abHigh, cdHigh, 0, 2));
  v128.store(to + 3 * toRow, v128.shuffle<i64>(abHigh, cdHigh, 1, 3));
}

/** to[c][r] = from[r][c] for one matrix of 4-byte words. */
export function transposeMatrix(rows: i32, columns: i32, from: usize, row: usize, to: usize, toRow: usize): void {
  const wholeRows = rows & ~3;
  const wholeColumns = columns & ~3;
  // 16 rows at a time fill whole cache lines of the result
  for (let r = 0; r < wholeRows; r += 16) {
    const end = min(r + 16, wholeRows);
    for (let c = 0; c < wholeColumns; c += 4) {
      let source = from + <usize>r * row + ((<usize>c) << 2);
      let target = to + <usize>c * toRow + ((<usize>r) << 2);
      for (let i = r; i < end; i += 4) {
        transpose4x4(source, row, target, toRow);
        source += row << 2;
        target += 16;
      }
    }
  }
  for (let c = 0; c < columns; c++) {
    for (let r = c < wholeColumns ? wholeRows : 0; r < rows; r++) {
      store<u32>(to + <usize>c * toRow + ((<usize>r) << 2), load<u32>(from + <usize>r * row + ((<usize>c) << 2)));
    }
  }
}

/** transposeMatrix of n0 x n1 matrices. */
export function transposeMatrices(
  n0: i32,
  n1: i32,
  rows: i32,
  columns: i32,
  from: usize,
  from0: usize,
  from1: usize,
  row: usize,
  to: usize,
  to0: usize,
  to1: usize,
  toRow: usize,
): void {
  for (let i = 0; i < n0; i++) {
    for (let j = 0; j < n1; j++) {
      transposeMatrix(rows, columns, from + <usize>j * from1, row, to + <usize>j * to1, toRow);
    }
    from += from0;
    to += to0;
  }
}
