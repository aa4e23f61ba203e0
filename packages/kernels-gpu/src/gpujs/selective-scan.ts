import { checkArray, view } from './array.ts';
import type { GpujsArray } from './array.ts';
import { rowSteps, scanSteps } from './linear-scan.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `selectiveScan`. */
export interface SelectiveScanInputs {
  /** u [B, T, C] */
  readonly input: GpujsArray;
  /** [B, T, C], after softplus */
  readonly delta: GpujsArray;
  /** A [C, N], negative */
  readonly transition: GpujsArray;
  /** B [B, T, N] */
  readonly inputMatrix: GpujsArray;
  /** C [B, T, N] */
  readonly outputMatrix: GpujsArray;
  /** D [C] */
  readonly skip?: GpujsArray | undefined;
  /** [B, C, N] */
  readonly state?: GpujsArray | undefined;
}

interface Settings {
  readonly batch: number;
  readonly time: number;
  readonly channels: number;
  readonly states: number;
}

const decays = kernelSource(
  'selectiveScan.decays',
  { delta: 'Input', transition: 'Input', states: 'Integer' },
  `const channel = Math.floor((this.thread.x + 0.5) / states);
  const n = this.thread.x - channel * states;
  return Math.exp(delta[this.thread.z][this.thread.y][channel] * transition[0][channel][n]);`,
);

const entries = variants((state: boolean) =>
  kernelSource(
    'selectiveScan.entries',
    { input: 'Input', delta: 'Input', inputMatrix: 'Input', decay: state && 'Input', state: state && 'Input', states: 'Integer' },
    `const t = this.thread.y;
    const b = this.thread.z;
    const channel = Math.floor((this.thread.x + 0.5) / states);
    const n = this.thread.x - channel * states;
    let value = delta[b][t][channel] * inputMatrix[b][t][n] * input[b][t][channel];
    ${state ? 'if (t === 0) { value = value + decay[b][0][this.thread.x] * state[b][0][this.thread.x]; }' : ''}
    return value;`,
  ),
);

const readOut = variants((skip: boolean) =>
  kernelSource(
    'selectiveScan.readOut',
    { hidden: 'Input', outputMatrix: 'Input', input: skip && 'Input', skip: skip && 'Input', states: 'Integer' },
    `const channel = this.thread.x;
    const t = this.thread.y;
    const b = this.thread.z;
    let sum = ${skip ? 'skip[0][0][channel] * input[b][t][channel]' : '0.0'};
    for (let n = 0; n < states; n++) {
      sum += outputMatrix[b][t][n] * hidden[b][t][channel * states + n];
    }
    return sum;`,
  ),
);

const program: Program<Settings> = function* (inputs, { batch, time, channels, states }) {
  const { input, delta, transition, inputMatrix, outputMatrix, skip, state } = inputs;
  const lanes = [channels * states, time, batch] as const;
  const decay = yield* step(decays, lanes, [delta, transition, states]);
  const entryValues = [input, delta, inputMatrix, state && decay, state, states];
  const entry = yield* step(entries(state !== undefined), lanes, entryValues);
  const hidden = yield* scanSteps(decay, entry, false);
  const readValues = [hidden, outputMatrix, skip && input, skip, states];
  return {
    output: yield* step(readOut(skip !== undefined), [channels, time, batch], readValues),
    state: yield* rowSteps(hidden, time - 1),
  };
};

/**
 * Selective scan (Mamba): h = exp(delta A) h + delta B u, y = sum_n C h + D u, by doubling over all B C N lanes at once.
 *
 * The hidden states of every step are kept: memory is of the order B T C N.
 *
 * @returns output [B, T, C] and state [B, C, N]
 * @throws SeqLoomError when the shapes do not fit
 */
export async function selectiveScan(
  gpujs: Gpujs,
  inputs: SelectiveScanInputs,
  placement: Placement = {},
): Promise<{ output: GpujsArray; state: GpujsArray }> {
  const { input, delta, transition, inputMatrix, outputMatrix, skip, state } = inputs;
  checkArray('selectiveScan', 'input', input, [null, null, null]);
  const [batch, time, channels] = input.shape as [number, number, number];
  checkArray('selectiveScan', 'delta', delta, input.shape);
  checkArray('selectiveScan', 'transition', transition, [channels, null]);
  const states = transition.shape[1]!;
  checkArray('selectiveScan', 'inputMatrix', inputMatrix, [batch, time, states]);
  checkArray('selectiveScan', 'outputMatrix', outputMatrix, [batch, time, states]);
  if (skip) checkArray('selectiveScan', 'skip', skip, [channels]);
  if (state) checkArray('selectiveScan', 'state', state, [batch, channels, states]);
  const views = {
    input: view(input, channels, time, batch),
    delta: view(delta, channels, time, batch),
    transition: view(transition, states, channels),
    inputMatrix: view(inputMatrix, states, time, batch),
    outputMatrix: view(outputMatrix, states, time, batch),
    skip: skip && view(skip, channels),
    state: state && view(state, channels * states, 1, batch),
  };
  const settings = { batch, time, channels, states };
  const results = await gpujs.run({ kernel: 'selectiveScan', inputs: views, settings, program }, placement);
  return { output: { shape: input.shape, data: results.output! }, state: { shape: [batch, channels, states], data: results.state! } };
}
