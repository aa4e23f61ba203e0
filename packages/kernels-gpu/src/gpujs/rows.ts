import { fail } from '@seqloom/core/error';
import { checkArray, view } from './array.ts';
import type { GpujsArray } from './array.ts';
import { wholeNumbers } from './check.ts';
import { kernelSource, step } from './program.ts';
import type { Program } from './program.ts';
import { sortPlaces } from './row-order.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `gatherRows`. */
export interface GatherRowsInputs {
  /** [V, D] */
  readonly table: GpujsArray;
  /** N row numbers below V */
  readonly indices: Int32Array;
}

/** Inputs of `scatterAddRows`. */
export interface ScatterAddRowsInputs {
  /** [N, D] */
  readonly rows: GpujsArray;
  /** N row numbers below V */
  readonly indices: Int32Array;
}

/** Options of `scatterAddRows`. */
export interface ScatterAddRowsOptions extends Placement {
  /** V, the number of rows of the table */
  readonly rowCount: number;
}

const pick = kernelSource(
  'gatherRows',
  { table: 'Input', indices: 'Input' },
  `const from = indices[0][0][this.thread.y];
  return table[0][from][this.thread.x];`,
);

const addUp = kernelSource(
  'scatterAddRows',
  { rows: 'Input', order: 'Input', starts: 'Input' },
  `const first = starts[0][0][this.thread.y];
  const count = starts[0][0][this.thread.y + 1] - first;
  let sum = 0.0;
  for (let i = 0; i < count; i++) {
    const from = order[0][0][first + i];
    sum += rows[0][from][this.thread.x];
  }
  return sum;`,
);

const gather: Program<{ width: number; count: number }> = function* ({ table, indices }, { width, count }) {
  return { rows: yield* step(pick, [width, count, 1], [table, indices]) };
};

const scatter: Program<{ width: number; rowCount: number }> = function* ({ rows, order, starts }, { width, rowCount }) {
  return { table: yield* step(addUp, [width, rowCount, 1], [rows, order, starts]) };
};

/**
 * Rows of a table: rows[n, :] = table[indices[n], :].
 *
 * @returns rows [N, D]
 * @throws SeqLoomError when an index is not a row of the table
 */
export async function gatherRows(gpujs: Gpujs, inputs: GatherRowsInputs, placement: Placement = {}): Promise<{ rows: GpujsArray }> {
  return pickRows(gpujs, 'gatherRows', inputs, placement);
}

/**
 * Gradient of `gatherRows`: rows that were read more than once add up what they are given.
 *
 * @param inputs the indices, and the gradient of the rows [N, D] as `cotangent`
 * @param options `rowCount`, the number of rows V of the table
 * @returns table [V, D]
 * @throws SeqLoomError when the shapes do not fit or an index is not below rowCount
 */
export async function gatherRowsGradient(
  gpujs: Gpujs,
  inputs: { readonly indices: Int32Array; readonly cotangent: GpujsArray },
  options: ScatterAddRowsOptions,
): Promise<{ table: GpujsArray }> {
  return addRows(gpujs, 'gatherRowsGradient', 'cotangent', { rows: inputs.cotangent, indices: inputs.indices }, options);
}

/**
 * Adds rows into a table of zeros: table[v, :] = sum of rows[n, :] over n with indices[n] = v.
 *
 * The indices are sorted on the host, so that every row is read once and the order of the sums is that of n.
 *
 * @returns table [V, D]
 * @throws SeqLoomError when the shapes do not fit or an index is not below rowCount
 */
export async function scatterAddRows(
  gpujs: Gpujs,
  inputs: ScatterAddRowsInputs,
  options: ScatterAddRowsOptions,
): Promise<{ table: GpujsArray }> {
  return addRows(gpujs, 'scatterAddRows', 'rows', inputs, options);
}

/**
 * Gradient of `scatterAddRows`: every row is given what its row of the table is given.
 *
 * @param inputs the indices, and the gradient of the table [V, D] as `cotangent`
 * @returns rows [N, D]
 * @throws SeqLoomError when an index is not a row of the cotangent
 */
export async function scatterAddRowsGradient(
  gpujs: Gpujs,
  inputs: { readonly indices: Int32Array; readonly cotangent: GpujsArray },
  placement: Placement = {},
): Promise<{ rows: GpujsArray }> {
  return pickRows(gpujs, 'scatterAddRowsGradient', { table: inputs.cotangent, indices: inputs.indices }, placement, 'cotangent');
}

async function pickRows(
  gpujs: Gpujs,
  kernel: string,
  { table, indices }: GatherRowsInputs,
  placement: Placement,
  argument = 'table',
): Promise<{ rows: GpujsArray }> {
  checkArray(kernel, argument, table, [null, null]);
  const [height, width] = table.shape as [number, number];
  const count = indices.length;
  const numbers = wholeNumbers(kernel, 'indices', indices, { count, least: 0, below: height });
  const views = { table: view(table, width, height), indices: view(numbers, count) };
  const { rows } = await gpujs.run({ kernel, inputs: views, settings: { width, count }, program: gather }, placement);
  return { rows: { shape: [count, width], data: rows! } };
}

async function addRows(
  gpujs: Gpujs,
  kernel: string,
  argument: string,
  { rows, indices }: ScatterAddRowsInputs,
  options: ScatterAddRowsOptions,
): Promise<{ table: GpujsArray }> {
  checkArray(kernel, argument, rows, [null, null]);
  const [count, width] = rows.shape as [number, number];
  const { rowCount, ...placement } = options;
  if (!Number.isInteger(rowCount) || rowCount < 1) {
    const wanted = 'a whole number of at least 1';
    fail({ mechanism: kernel, argument: 'rowCount', wanted, given: String(rowCount), remedy: 'Give the number of rows of the table.' });
  }
  wholeNumbers(kernel, 'indices', indices, { count, least: 0, below: rowCount });
  const views = { rows: view(rows, width, count), ...sortPlaces(indices, rowCount) };
  const { table } = await gpujs.run({ kernel, inputs: views, settings: { width, rowCount }, program: scatter }, placement);
  return { table: { shape: [rowCount, width], data: table! } };
}
