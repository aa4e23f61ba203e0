import { addRow } from './convolution';

/** out[i] = table[indices[i]] over rows of `width` floats. */
export function gatherRows(count: i32, width: i32, table: usize, indices: usize, out: usize): void {
  const bytes = (<usize>width) << 2;
  for (let i = 0; i < count; i++) {
    memory.copy(out, table + <usize>load<i32>(indices + ((<usize>i) << 2)) * bytes, bytes);
    out += bytes;
  }
}

/** table[indices[i]] += rows[i] */
export function scatterAddRows(count: i32, width: i32, rows: usize, indices: usize, table: usize): void {
  const bytes = (<usize>width) << 2;
  for (let i = 0; i < count; i++) {
    addRow(width, rows, table + <usize>load<i32>(indices + ((<usize>i) << 2)) * bytes);
    rows += bytes;
  }
}

/** sums[ids[i]] += rows[i]; ids outside 0..segments - 1 are dropped. */
export function segmentSum(count: i32, width: i32, rows: usize, ids: usize, segments: i32, sums: usize): void {
  for (let i = 0; i < count; i++) {
    const id = load<i32>(ids + ((<usize>i) << 2));
    if (id >= 0 && id < segments) addRow(width, rows + ((<usize>(i * width)) << 2), sums + ((<usize>(id * width)) << 2));
  }
}
