import { checkArray, view } from './array.ts';
import type { GpujsArray } from './array.ts';
import { wholeNumbers } from './check.ts';
import { kernelSource, step } from './program.ts';
import type { Program } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `gatherRows`. */
export interface GatherRowsInputs {
  /** [V, D] */
  readonly table: GpujsArray;
  /** N row numbers below V */
  readonly indices: Int32Array;
}

const pick = kernelSource(
  'gatherRows',
  { table: 'Input', indices: 'Input' },
  `const from = indices[0][0][this.thread.y];
  return table[0][from][this.thread.x];`,
);

const program: Program<{ width: number; count: number }> = function* ({ table, indices }, { width, count }) {
  return { rows: yield* step(pick, [width, count, 1], [table, indices]) };
};

/**
 * Rows of a table: rows[n, :] = table[indices[n], :].
 *
 * @returns rows [N, D]
 * @throws SeqLoomError when an index is not a row of the table
 */
export async function gatherRows(gpujs: Gpujs, inputs: GatherRowsInputs, placement: Placement = {}): Promise<{ rows: GpujsArray }> {
  const { table, indices } = inputs;
  checkArray('gatherRows', 'table', table, [null, null]);
  const [height, width] = table.shape as [number, number];
  const count = indices.length;
  const numbers = wholeNumbers('gatherRows', 'indices', indices, { count, least: 0, below: height });
  const views = { table: view(table, width, height), indices: view(numbers, count) };
  const { rows } = await gpujs.run({ kernel: 'gatherRows', inputs: views, settings: { width, count }, program }, placement);
  return { rows: { shape: [count, width], data: rows! } };
}
