import { exp4, put4, sigmoid4, take4 } from './lanes';
import { addRow } from './convolution';

/** to[j, i] = from[i, j] for 4-byte elements; strides in bytes between rows. */
export function transposeBlock(rows: i32, columns: i32, from: usize, fromStride: usize, to: usize, toStride: usize): void {
  // tiles of 16 columns keep the lines that are written in the cache
  for (let j0 = 0; j0 < columns; j0 += 16) {
    const j1 = min(columns, j0 + 16);
    let i = 0;
    for (; i + 4 <= rows; i += 4) {
      const r0 = from + <usize>i * fromStride;
      const r1 = r0 + fromStride;
      const r2 = r1 + fromStride;
      const r3 = r2 + fromStride;
      let j = j0;
      for (; j + 4 <= j1; j += 4) {
        const at = (<usize>j) << 2;
        const x0 = v128.load(r0 + at);
        const x1 = v128.load(r1 + at);
        const x2 = v128.load(r2 + at);
        const x3 = v128.load(r3 + at);
        const low01 = v128.shuffle<f32>(x0, x1, 0, 4, 1, 5);
        const low23 = v128.shuffle<f32>(x2, x3, 0, 4, 1, 5);
        const high01 = v128.shuffle<f32>(x0, x1, 2, 6, 3, 7);
        const high23 = v128.shuffle<f32>(x2, x3, 2, 6, 3, 7);
        let target = to + <usize>j * toStride + ((<usize>i) << 2);
        v128.store(target, v128.shuffle<f32>(low01, low23, 0, 1, 4, 5));
        target += toStride;
        v128.store(target, v128.shuffle<f32>(low01, low23, 2, 3, 6, 7));
        target += toStride;
        v128.store(target, v128.shuffle<f32>(high01, high23, 0, 1, 4, 5));
        target += toStride;
        v128.store(target, v128.shuffle<f32>(high01, high23, 2, 3, 6, 7));
      }
      for (; j < j1; j++) {
        const at = (<usize>j) << 2;
        const target = to + <usize>j * toStride + ((<usize>i) << 2);
        v128.store(target, i32x4(load<i32>(r0 + at), load<i32>(r1 + at), load<i32>(r2 + at), load<i32>(r3 + at)));
      }
    }
    for (; i < rows; i++) {
      for (let j = j0; j < j1; j++)
        store<i32>(to + <usize>j * toStride + ((<usize>i) << 2), load<i32>(from + <usize>i * fromStride + ((<usize>j) << 2)));
    }
  }
}

/**
 * Moves blocks: for every combination of the `rank` outer axes (extents, source strides and target strides in bytes as i32 at `axes`), either copies
 * `rows` bytes (columns = 0) or transposes a block of rows x columns.
 */
export function permute(rank: i32, axes: usize, rows: i32, columns: i32, from: usize, fromStride: usize, to: usize, toStride: usize): void {
  if (rank == 0) {
    if (columns > 0) transposeBlock(rows, columns, from, fromStride, to, toStride);
    else memory.copy(to, from, <usize>rows);
    return;
  }
  const extent = load<i32>(axes);
  const source = <usize>load<i32>(axes, 4);
  const target = <usize>load<i32>(axes, 8);
  for (let i = 0; i < extent; i++) {
    permute(rank - 1, axes + 12, rows, columns, from, fromStride, to, toStride);
    from += source;
    to += target;
  }
}

export function exponential(count: i32, x: usize, to: usize): void {
  for (let i = 0; i < count; i += 4) put4(to + ((<usize>i) << 2), exp4(take4(x + ((<usize>i) << 2), count - i)), count - i);
}

export function sigmoid(count: i32, x: usize, to: usize): void {
  for (let i = 0; i < count; i += 4) put4(to + ((<usize>i) << 2), sigmoid4(take4(x + ((<usize>i) << 2), count - i)), count - i);
}

/** sums[ids[i]] += rows[i]; ids outside 0..segments - 1 are dropped. */
export function segmentSum(count: i32, width: i32, rows: usize, ids: usize, segments: i32, sums: usize): void {
  for (let i = 0; i < count; i++) {
    const id = load<i32>(ids + ((<usize>i) << 2));
    if (id >= 0 && id < segments) addRow(width, rows + ((<usize>(i * width)) << 2), sums + ((<usize>(id * width)) << 2));
  }
}
