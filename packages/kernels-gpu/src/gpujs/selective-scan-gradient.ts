import { checkArray, view } from './array.ts';
import type { GpujsArray } from './array.ts';
import { joinSteps } from './concat.ts';
import { carry, joinCotangents, neighbourDecay, ofDecay, ofState, scanSteps } from './linear-scan.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program, Value } from './program.ts';
import type { Gpujs } from './run.ts';
import { arrangeSelectiveScan, chunkStarts, laneSteps, laneText } from './selective-scan.ts';
import type { SelectiveScanInputs, SelectiveScanOptions, SelectiveScanSettings } from './selective-scan.ts';

/** The gradient of the states that comes from the output: dy C. */
const ofHidden = kernelSource(
  'selectiveScan.ofHidden',
  { cotangent: 'Input', outputMatrix: 'Input', start: 'Integer', states: 'Integer' },
  `const t = start + this.thread.y;
    ${laneText}
    return cotangent[this.thread.z][t][channel] * outputMatrix[this.thread.z][t][n];`,
);

const ofInput = variants((skip: boolean) =>
  kernelSource(
    'selectiveScan.ofInput',
    {
      carried: 'Input',
      delta: 'Input',
      inputMatrix: 'Input',
      cotangent: skip && 'Input',
      skip: skip && 'Input',
      start: 'Integer',
      states: 'Integer',
    },
    `const channel = this.thread.x;
    const y = this.thread.y;
    const b = this.thread.z;
    let sum = 0.0;
    for (let n = 0; n < states; n++) { sum += carried[b][y][channel * states + n] * inputMatrix[b][start + y][n]; }
    return delta[b][start + y][channel] * sum${skip ? ' + skip[0][0][channel] * cotangent[b][start + y][channel]' : ''};`,
  ),
);

const ofDelta = kernelSource(
  'selectiveScan.ofDelta',
  {
    carried: 'Input',
    ofFactor: 'Input',
    decay: 'Input',
    transition: 'Input',
    inputMatrix: 'Input',
    input: 'Input',
    start: 'Integer',
    states: 'Integer',
  },
  `const channel = this.thread.x;
  const y = this.thread.y;
  const b = this.thread.z;
  let sum = 0.0;
  for (let n = 0; n < states; n++) {
    const lane = channel * states + n;
    sum += ofFactor[b][y][lane] * decay[b][y][lane] * transition[0][channel][n];
    sum += carried[b][y][lane] * inputMatrix[b][start + y][n] * input[b][start + y][channel];
  }
  return sum;`,
);

const ofInputMatrix = kernelSource(
  'selectiveScan.ofInputMatrix',
  { carried: 'Input', delta: 'Input', input: 'Input', start: 'Integer', channels: 'Integer', states: 'Integer' },
  `const y = this.thread.y;
  const b = this.thread.z;
  let sum = 0.0;
  for (let i = 0; i < channels; i++) {
    sum += delta[b][start + y][i] * input[b][start + y][i] * carried[b][y][i * states + this.thread.x];
  }
  return sum;`,
);

const ofOutputMatrix = kernelSource(
  'selectiveScan.ofOutputMatrix',
  { hidden: 'Input', cotangent: 'Input', start: 'Integer', channels: 'Integer', states: 'Integer' },
  `const y = this.thread.y;
  const b = this.thread.z;
  let sum = 0.0;
  for (let i = 0; i < channels; i++) { sum += cotangent[b][start + y][i] * hidden[b][y][i * states + this.thread.x]; }
  return sum;`,
);

/** What a chunk adds to the gradient of A, per batch row. */
const ofTransition = variants((first: boolean) =>
  kernelSource(
    'selectiveScan.ofTransition',
    {
      sum: !first && 'Input',
      ofFactor: 'Input',
      decay: 'Input',
      delta: 'Input',
      start: 'Integer',
      count: 'Integer',
      states: 'Integer',
    },
    `const x = this.thread.x;
    const b = this.thread.z;
    const channel = Math.floor((x + 0.5) / states);
    let total = ${first ? '0.0' : 'sum[b][0][x]'};
    for (let i = 0; i < count; i++) { total += ofFactor[b][i][x] * decay[b][i][x] * delta[b][start + i][channel]; }
    return total;`,
  ),
);

const overBatch = kernelSource(
  'selectiveScan.overBatch',
  { rows: 'Input', batch: 'Integer' },
  `let sum = 0.0;
  for (let i = 0; i < batch; i++) { sum += rows[i][0][this.thread.x]; }
  return sum;`,
);

/** What a batch row adds to the gradient of D. */
const ofSkip = kernelSource(
  'selectiveScan.ofSkip',
  { cotangent: 'Input', input: 'Input', time: 'Integer' },
  `const b = this.thread.z;
  let sum = 0.0;
  for (let i = 0; i < time; i++) { sum += cotangent[b][i][this.thread.x] * input[b][i][this.thread.x]; }
  return sum;`,
);

const parts = ['input', 'delta', 'inputMatrix', 'outputMatrix'] as const;

const backward: Program<SelectiveScanSettings> = function* (inputs, settings) {
  const { batch, time, channels, states } = settings;
  const { input, delta, transition, inputMatrix, outputMatrix, skip, state, cotangent } = inputs;
  const starts = chunkStarts(settings);
  // the states between the chunks; those inside are computed again
  const borders: (Value | undefined)[] = [state];
  for (const start of starts.slice(0, -1)) {
    const { decay, entry } = yield* laneSteps(inputs, settings, start);
    const [lanes, count] = decay.extents;
    const before = borders.at(-1);
    borders.push(yield* step(carry(before !== undefined), [lanes, 1, batch], [decay, entry, before, 0, count, 1]));
  }
  const pieces: Record<(typeof parts)[number], Value[]> = { input: [], delta: [], inputMatrix: [], outputMatrix: [] };
  let leaving = inputs.stateCotangent;
  let ofA: Value | undefined;
  for (const [index, start] of [...starts.entries()].toReversed()) {
    const before = borders[index];
    const { decay, entry } = yield* laneSteps(inputs, settings, start);
    const { extents } = decay;
    const [lanes, count] = extents;
    const hidden = yield* scanSteps(decay, entry, false, before);
    let seen = yield* step(ofHidden, extents, [cotangent, outputMatrix, start, states]);
    if (leaving) seen = yield* step(joinCotangents, extents, [seen, leaving, count - 1]);
    const carried = yield* scanSteps(yield* step(neighbourDecay, extents, [decay, 1, count]), seen, true);
    const ofFactor = yield* step(ofDecay(before !== undefined), extents, [hidden, carried, before, 1, count]);
    const inputValues = [carried, delta, inputMatrix, skip && cotangent, skip, start, states];
    pieces.input.unshift(yield* step(ofInput(skip !== undefined), [channels, count, batch], inputValues));
    const deltaValues = [carried, ofFactor, decay, transition, inputMatrix, input, start, states];
    pieces.delta.unshift(yield* step(ofDelta, [channels, count, batch], deltaValues));
    const matrix = [states, count, batch] as const;
    pieces.inputMatrix.unshift(yield* step(ofInputMatrix, matrix, [carried, delta, input, start, channels, states]));
    pieces.outputMatrix.unshift(yield* step(ofOutputMatrix, matrix, [hidden, cotangent, start, channels, states]));
    ofA = yield* step(ofTransition(!ofA), [lanes, 1, batch], [ofA, ofFactor, decay, delta, start, count, states]);
    if (index > 0 || state) leaving = yield* step(ofState, [lanes, 1, batch], [decay, carried, 0]);
  }
  const gradients: Record<string, Value> = { transition: yield* step(overBatch, [channels * states, 1, 1], [ofA, batch]) };
  for (const part of parts) gradients[part] = yield* joinSteps(pieces[part]);
  if (skip) {
    const rows = yield* step(ofSkip, [channels, 1, batch], [cotangent, input, time]);
    gradients.skip = yield* step(overBatch, [channels, 1, 1], [rows, batch]);
  }
  if (state) gradients.state = leaving!;
  return gradients;
};

/** Inputs of `selectiveScanGradient`. */
export interface SelectiveScanGradientInputs extends SelectiveScanInputs {
  /** gradient of the output [B, T, C] */
  readonly cotangent: GpujsArray;
  /** gradient of the final state [B, C, N]; zeros when left out */
  readonly stateCotangent?: GpujsArray | undefined;
}

/**
 * Gradients of `selectiveScan`, chunk by chunk from the last to the first; states inside a chunk are computed again.
 *
 * @returns a gradient for every input that was given, in its shape
 * @throws SeqLoomError when the shapes do not fit
 */
export async function selectiveScanGradient(
  gpujs: Gpujs,
  inputs: SelectiveScanGradientInputs,
  options: SelectiveScanOptions = {},
): Promise<{ [K in keyof SelectiveScanInputs]: GpujsArray }> {
  const kernel = 'selectiveScanGradient';
  const { views, settings } = arrangeSelectiveScan(kernel, inputs, options);
  const { batch, time, channels, states } = settings;
  const { input, delta, transition, inputMatrix, outputMatrix, skip, state, cotangent, stateCotangent } = inputs;
  checkArray(kernel, 'cotangent', cotangent, input.shape);
  if (stateCotangent) checkArray(kernel, 'stateCotangent', stateCotangent, [batch, channels, states]);
  const all = {
    ...views,
    cotangent: view(cotangent, channels, time, batch),
    stateCotangent: stateCotangent && view(stateCotangent, channels * states, 1, batch),
  };
  const found = await gpujs.run({ kernel, inputs: all, settings, program: backward }, options);
  return {
    input: { shape: input.shape, data: found.input! },
    delta: { shape: delta.shape, data: found.delta! },
    transition: { shape: transition.shape, data: found.transition! },
    inputMatrix: { shape: inputMatrix.shape, data: found.inputMatrix! },
    outputMatrix: { shape: outputMatrix.shape, data: found.outputMatrix! },
    ...(skip && { skip: { shape: skip.shape, data: found.skip! } }),
    ...(state && { state: { shape: state.shape, data: found.state! } }),
  };
}
