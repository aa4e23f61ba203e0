import * as tf from '@tensorflow/tfjs-core';
import { fail } from '@seqloom/core';
import type { MemoryTable, RowGradients } from './memory-table.ts';
import { changeRows } from './write-rows.ts';

/** Options of `SparseAdamW`. */
export interface SparseAdamWOptions {
  /** default 1e-3, the fixed rate of the paper */
  readonly learningRate?: number;
  /** default 0.9 */
  readonly beta1?: number;
  /** default 0.95 */
  readonly beta2?: number;
  /** default 1e-8 */
  readonly epsilon?: number;
  /** share of a touched row that is taken away per unit of learning rate, default 0 */
  readonly weightDecay?: number;
}

/** What a step did. */
export interface SparseStep {
  /** rows that were read since the step before, and so were updated */
  readonly rows: number;
  /** false where the backend made the whole table anew */
  readonly inPlace: boolean;
}

/** Gradients added up by row. */
interface SummedRows {
  /** each once, in the order of their first reading */
  readonly rows: Int32Array;
  /** [rows, E] */
  readonly gradients: Float32Array;
}

/**
 * AdamW on the rows of a sparse `MemoryTable` that were read since the last step; all others, and their moments, stay as they are.
 *
 * With g the gradient of a touched row: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
 * `p = p (1 - r d) - r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + e)`, t counting all steps. Where every row is touched in every step this is
 * AdamW. Time and what is read back depend on the rows, not on the table; the two moments take as much room as the table.
 *
 * The trainer's AdamW leaves a sparse table alone; call `step` after its own.
 */
export class SparseAdamW {
  /** steps done */
  stepCount = 0;
  readonly #table: MemoryTable;
  readonly #settings: Required<SparseAdamWOptions>;
  readonly #first: Float32Array;
  readonly #second: Float32Array;

  /** @throws SeqLoomError when the table is dense */
  constructor(table: MemoryTable, options: SparseAdamWOptions = {}) {
    if (!table.config.sparse) {
      fail({
        mechanism: 'memory-layers-at-scale',
        argument: 'table',
        wanted: 'sparse',
        given: 'a dense table',
        remedy: 'Build the table with sparse: true, or train it with the optimiser of all other parameters.',
      });
    }
    this.#table = table;
    this.#settings = { learningRate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0, ...options };
    // the system gives out pages of zeros when they are first touched
    this.#first = new Float32Array(table.values.size);
    this.#second = new Float32Array(table.values.size);
  }

  /**
   * One step with the gradients that wait in the table, which are freed.
   *
   * @param options learningRate instead of the one of the constructor; a factor on every gradient, as the trainer has for clipping and for
   *   the number of tokens
   */
  async step(options: { readonly learningRate?: number; readonly gradientScale?: number } = {}): Promise<SparseStep> {
    const { beta1, beta2, epsilon, weightDecay } = this.#settings;
    const { learningRate = this.#settings.learningRate, gradientScale = 1 } = options;
    const width = this.#table.config.dim;
    const { rows, gradients } = await sumRows(this.#table.take(), width);
    this.stepCount++;
    if (rows.length === 0) return { rows: 0, inPlace: true };
    const [first, second] = [this.#first, this.#second];
    const [correction1, correction2] = [1 - beta1 ** this.stepCount, 1 - beta2 ** this.stepCount];
    const inPlace = await changeRows(this.#table.values, rows, (place, row) => {
      const start = rows[place]! * width;
      for (let d = 0; d < width; d++) {
        const g = gradientScale * gradients[place * width + d]!;
        const m = beta1 * first[start + d]! + (1 - beta1) * g;
        const s = beta2 * second[start + d]! + (1 - beta2) * g * g;
        first[start + d] = m;
        second[start + d] = s;
        row[d] = row[d]! * (1 - learningRate * weightDecay) - (learningRate * (m / correction1)) / (Math.sqrt(s / correction2) + epsilon);
      }
    });
    return { rows: rows.length, inPlace };
  }
}

/** Adds up the gradients of each row over all lookups and bags; frees them. */
async function sumRows(pending: readonly RowGradients[], width: number): Promise<SummedRows> {
  const host = await Promise.all(
    pending.map(async ({ indices, weights, upstream }) => ({
      indices: await indices.data<'int32'>(),
      weights: await weights.data<'float32'>(),
      upstream: await upstream.data<'float32'>(),
      count: upstream.shape[0]!,
    })),
  );
  tf.dispose(pending.map((gradients) => ({ ...gradients })));
  const places = new Map<number, number>();
  for (const { indices } of host) for (const row of indices) if (!places.has(row)) places.set(row, places.size);
  const gradients = new Float32Array(places.size * width);
  for (const { indices, weights, upstream, count } of host) {
    const chosen = indices.length / count;
    for (let i = 0; i < indices.length; i++) {
      const from = Math.floor(i / chosen) * width;
      const to = places.get(indices[i]!)! * width;
      const weight = weights[i]!;
      for (let d = 0; d < width; d++) gradients[to + d]! += weight * upstream[from + d]!;
    }
  }
  return { rows: Int32Array.from(places.keys()), gradients };
}
