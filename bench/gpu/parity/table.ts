import type { ParityRow } from './measure.ts';

/** One writing in one mode on one adapter, measured. */
export interface ParityRun {
  /** `wgsl` or `gpu.js` */
  readonly writing: string;
  /** where it computes: `webgpu`, `webasm` or `cpu` */
  readonly mode: string;
  /** the GPU's adapter, or what runs WebAssembly and JavaScript */
  readonly adapter: string;
  /** revision of the sources, and the day */
  readonly sources: string;
  readonly rows: readonly ParityRow[];
}

/** The largest error that counts as right: exponentials of GPUs have three to four digits less than float32 has. */
const boundOf = (mode: string): number => (mode === 'webgpu' ? 2e-4 : 2e-5);

const keyOf = ({ writing, mode, adapter }: ParityRun): string => `${writing} ${mode} ${adapter}`;

/** New runs in the place of those of the same writing, mode and adapter; runs on other adapters stay. */
export function mergeRuns(before: readonly ParityRun[], now: readonly ParityRun[]): ParityRun[] {
  const fresh = new Set(now.map(keyOf));
  return [...now, ...before.filter((run) => !fresh.has(keyOf(run)))];
}

/** What is wrong with a row that was measured in a mode, or null. */
export function redReason(mode: string, { outputs, gradients, faults }: ParityRow): string | null {
  if (faults.length > 0) return faults[0]!;
  const bound = boundOf(mode);
  // an error that is no number is none within bounds
  if (!((outputs ?? 0) <= bound)) return `outputs beyond ${bound.toFixed(5).replace(/0+$/, '')}`;
  if (!((gradients ?? 0) <= bound)) return `gradients beyond ${bound.toFixed(5).replace(/0+$/, '')}`;
  return null;
}

const errorText = (error: number | null): string => (error === null ? 'none' : error === 0 ? '0' : error.toExponential(1));

function cell(mode: string, row: ParityRow | undefined): string {
  if (!row || row.outputs === null) return row && row.faults.length > 0 ? '**red**' : '';
  const text = `${errorText(row.outputs)}, ${errorText(row.gradients)}`;
  return redReason(mode, row) ? `**${text}**` : text;
}

/** The runs as a page: a line per kernel, a column per run. */
export function parityPage(runs: readonly ParityRun[], command: string): string {
  const kernels = [...new Set(runs.flatMap(({ rows }) => rows.map(({ kernel }) => kernel)))];
  const rowOf = ({ rows }: ParityRun, kernel: string): ParityRow | undefined => rows.find((row) => row.kernel === kernel);
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const cases = (kernel: string): string => String(Math.max(...runs.map((run) => rowOf(run, kernel)?.cases ?? 0)));
  const red = runs.flatMap((run) =>
    run.rows.flatMap((row) => {
      const reason = redReason(run.mode, row);
      return reason ? [`- ${row.kernel}, ${run.writing} on ${run.mode}: ${reason}`] : [];
    }),
  );
  return [
    '# Parity of the GPU kernels',
    '',
    'Every kernel contract, in each writing, against its specification in double precision: the largest error of an output, and of a gradient',
    '(against central differences of the specification, for all inputs that have one). An error is the largest difference over the largest magnitude in',
    'that array; the worst of all arrays and cases is shown. A cell has two numbers, for outputs and for gradients; `none`: there is no gradient; an',
    'empty cell: this writing has no such kernel.',
    '',
    `- Command: \`${command}\``,
    ...runs.map(({ writing, mode, adapter, sources }) => `- ${writing} on ${mode}: ${adapter}; sources ${sources}`),
    '',
    line(['kernel', 'cases', ...runs.map((run) => `${run.writing}, ${run.mode}${sameMode(runs, run) ? `, ${run.adapter}` : ''}`)]),
    line(['---', '---', ...runs.map(() => '---')]),
    ...kernels.map((kernel) => line([`\`${kernel}\``, cases(kernel), ...runs.map((run) => cell(run.mode, rowOf(run, kernel)))])),
    '',
    `Bounds: ${boundOf('webgpu')} on GPUs, whose exponentials have three to four digits less than float32 has, ${boundOf('cpu')} elsewhere.`,
    'The modes `webasm`, `webgpu` and `webgl2` in Chromium are held to the numbers of `cpu` by `npm run test:browser`.',
    ...(red.length > 0 ? ['', '## Red', '', ...red] : []),
    '',
  ].join('\n');
}

/** Whether another run has the same writing and mode, so that only the adapter tells them apart. */
function sameMode(runs: readonly ParityRun[], { writing, mode }: ParityRun): boolean {
  return runs.filter((run) => run.writing === writing && run.mode === mode).length > 1;
}
