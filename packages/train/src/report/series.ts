import type { StepMetrics } from '../train-options.ts';

/** Columns of a chart, thinned so that a long run stays a small file. */
export interface Series {
  readonly step: readonly number[];
  readonly bitsPerByte: readonly number[];
  /** exponential mean of `bitsPerByte` over about a fiftieth of the run */
  readonly smooth: readonly number[];
  readonly learningRate: readonly number[];
  readonly gradientNorm: readonly number[];
  readonly tokensPerSecond: readonly number[];
}

const COLUMNS = ['step', 'bitsPerByte', 'smooth', 'learningRate', 'gradientNorm', 'tokensPerSecond'] as const;

/**
 * Turns the metrics of a run into columns of at most `most` points, each the mean of its neighbours.
 *
 * @param metrics one entry per step, in order; steps without a finite loss are left out
 */
export function thinSeries(metrics: readonly StepMetrics[], most = 1200): Series {
  const finite = metrics.filter(({ loss, gradientNorm }) => Number.isFinite(loss) && Number.isFinite(gradientNorm));
  const memory = 1 - 1 / Math.max(1, finite.length / 50);
  let weight = 0;
  let sum = 0;
  const rows = finite.map((line) => {
    weight = memory * weight + 1;
    sum = memory * sum + line.bitsPerByte;
    return { ...line, smooth: sum / weight };
  });
  const bucket = Math.max(1, Math.ceil(rows.length / most));
  const columns: Record<(typeof COLUMNS)[number], number[]> = {
    step: [],
    bitsPerByte: [],
    smooth: [],
    learningRate: [],
    gradientNorm: [],
    tokensPerSecond: [],
  };
  for (let from = 0; from < rows.length; from += bucket) {
    const some = rows.slice(from, from + bucket);
    for (const column of COLUMNS) {
      const mean = some.reduce((total, row) => total + row[column], 0) / some.length;
      columns[column].push(column === 'step' ? some.at(-1)!.step : Number(mean.toPrecision(5)));
    }
  }
  return columns;
}
