import { fail } from '@seqloom/core/error';
import { checkArray, sizeOf, view } from './array.ts';
import type { GpujsArray } from './array.ts';
import { kernelSource, step } from './program.ts';
import type { Program, Value } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Options of `topKRows`. */
export interface TopKRowsOptions extends Placement {
  /** how many of each row to keep, at most N */
  readonly k: number;
}

interface Settings {
  readonly width: number;
  readonly rows: number;
  readonly k: number;
}

const sweep = kernelSource(
  'topKRows.sweep',
  { input: 'Input', width: 'Integer' },
  `const row = this.thread.y;
  let place = 0.0;
  let value = 0.0;
  for (let round = 0; round <= this.thread.x; round++) {
    let best = 0.0;
    let bestPlace = -1.0;
    for (let i = 0; i < width; i++) {
      const other = input[0][row][i];
      let after = 1.0;
      if (round > 0) {
        if (other > value) { after = 0.0; }
        if (other == value && i <= place) { after = 0.0; }
      }
      if (after > 0.5) {
        if (bestPlace < 0 || other > best) { best = other; bestPlace = i; }
      }
    }
    place = Math.max(bestPlace, 0.0);
    value = best;
  }
  return place;`,
);

const rank = kernelSource(
  'topKRows.rank',
  { input: 'Input', width: 'Integer' },
  `const row = this.thread.y;
  const own = input[0][row][this.thread.x];
  let before = 0.0;
  for (let i = 0; i < width; i++) {
    const other = input[0][row][i];
    if (other > own) { before += 1.0; }
    if (other == own && i < this.thread.x) { before += 1.0; }
  }
  return before;`,
);

const findRank = kernelSource(
  'topKRows.findRank',
  { ranks: 'Input', width: 'Integer' },
  `let place = 0.0;
  for (let i = 0; i < width; i++) {
    if (Math.abs(ranks[0][this.thread.y][i] - this.thread.x) < 0.5) { place = i; }
  }
  return place;`,
);

const valuesAt = kernelSource(
  'topKRows.valuesAt',
  { input: 'Input', indices: 'Input' },
  `const at = indices[0][this.thread.y][this.thread.x];
  return input[0][this.thread.y][at];`,
);

const ofInput = kernelSource(
  'topKRows.ofInput',
  { indices: 'Input', cotangent: 'Input', k: 'Integer' },
  `const row = this.thread.y;
  let sum = 0.0;
  for (let i = 0; i < k; i++) {
    if (Math.abs(indices[0][row][i] - this.thread.x) < 0.5) { sum += cotangent[0][row][i]; }
  }
  return sum;`,
);

const forward: Program<Settings> = function* ({ input }, { width, rows, k }) {
  let indices: Value;
  // k(k + 1)/2 looks at a row, or one look per number of it
  if (k * k <= 2 * width) indices = yield* step(sweep, [k, rows, 1], [input, width]);
  else indices = yield* step(findRank, [k, rows, 1], [yield* step(rank, [width, rows, 1], [input, width]), width]);
  return { values: yield* step(valuesAt, [k, rows, 1], [input, indices]), indices };
};

const backward: Program<Settings> = function* ({ indices, cotangent }, { width, rows, k }) {
  return { input: yield* step(ofInput, [width, rows, 1], [indices, cotangent, k]) };
};

function checkCount(kernel: string, argument: string, count: number, most: number): void {
  if (Number.isInteger(count) && count >= 1 && count <= most) return;
  const wanted = `a whole number from 1 to ${most}`;
  fail({ mechanism: kernel, argument, wanted, given: String(count), remedy: 'Keep at most the whole row.' });
}

/**
 * The k largest of each row, largest first; of equal values the one with the lower index comes first.
 *
 * A thread per kept number looks through its row k times; where that would be more work, one thread per number of the row counts how many come
 * before it.
 *
 * @param inputs `input` [..., N], without NaN
 * @returns values [..., k], and indices [..., k] as whole float32 numbers
 * @throws SeqLoomError when k is not a whole number from 1 to N
 */
export async function topKRows(
  gpujs: Gpujs,
  inputs: { readonly input: GpujsArray },
  options: TopKRowsOptions,
): Promise<{ values: GpujsArray; indices: GpujsArray }> {
  const { input } = inputs;
  const { k, ...placement } = options;
  checkArray('topKRows', 'input', input, input.shape.length > 0 ? input.shape : [null]);
  const width = input.shape.at(-1)!;
  checkCount('topKRows', 'k', k, width);
  const rows = sizeOf(input.shape) / width;
  const views = { input: view(input, width, rows) };
  const { values, indices } = await gpujs.run(
    { kernel: 'topKRows', inputs: views, settings: { width, rows, k }, program: forward },
    placement,
  );
  const shape = [...input.shape.slice(0, -1), k];
  return { values: { shape, data: values! }, indices: { shape, data: indices! } };
}

/**
 * Gradient of the values of `topKRows` by its input: each goes where its value came from.
 *
 * @param inputs the indices [..., k] as `topKRows` gave them, and the gradient of the values [..., k] as `cotangent`
 * @param options `width`, the N of the input
 * @returns input [..., N]
 * @throws SeqLoomError when the shapes do not fit
 */
export async function topKRowsGradient(
  gpujs: Gpujs,
  inputs: { readonly indices: GpujsArray; readonly cotangent: GpujsArray },
  options: Placement & { readonly width: number },
): Promise<{ input: GpujsArray }> {
  const { indices, cotangent } = inputs;
  const { width, ...placement } = options;
  checkArray('topKRowsGradient', 'indices', indices, indices.shape.length > 0 ? indices.shape : [null]);
  checkArray('topKRowsGradient', 'cotangent', cotangent, indices.shape);
  const k = indices.shape.at(-1)!;
  checkCount('topKRowsGradient', "indices' last axis", k, width);
  const rows = sizeOf(indices.shape) / k;
  const views = { indices: view(indices, k, rows), cotangent: view(cotangent, k, rows) };
  const { input } = await gpujs.run(
    { kernel: 'topKRowsGradient', inputs: views, settings: { width, rows, k }, program: backward },
    placement,
  );
  return { input: { shape: [...indices.shape.slice(0, -1), width], data: input! } };
}
