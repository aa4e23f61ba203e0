import { array64 } from './array64.ts';
import type { Array64 } from './array64.ts';

/** rows[n, :] = table[indices[n], :] in double precision. */
export function naiveGatherRows(inputs: { table: Array64; indices: Array64 }): { rows: Array64 } {
  const { table, indices } = inputs;
  const width = table.shape[1]!;
  const rows = array64([...indices.shape, width]);
  indices.data.forEach((index, place) => rows.data.set(table.data.subarray(index * width, (index + 1) * width), place * width));
  return { rows };
}

/** table[v, :] = sum of rows[n, :] over n with indices[n] = v, in double precision. */
export function naiveScatterAddRows(inputs: { rows: Array64; indices: Array64 }, settings: { rowCount: number }): { table: Array64 } {
  const { rows, indices } = inputs;
  const width = rows.shape[1]!;
  const table = array64([settings.rowCount, width]);
  indices.data.forEach((index, place) => {
    for (let channel = 0; channel < width; channel++) {
      const target = index * width + channel;
      table.data[target] = table.data[target]! + rows.data[place * width + channel]!;
    }
  });
  return { table };
}
