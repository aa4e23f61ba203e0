import { checkArray, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { checkCount } from './check.ts';
import { joinSteps } from './concat.ts';
import { rowSteps, scanSteps } from './linear-scan.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program, Steps, Value, Values } from './program.ts';
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

/** Options of `selectiveScan`. */
export interface SelectiveScanOptions extends Placement {
  /** steps whose states are held at once; by default as many as make 2^22 numbers, at least 16 */
  readonly chunkSize?: number;
}

/** What the programs of the forward and the gradient know of their inputs. */
export interface SelectiveScanSettings {
  readonly batch: number;
  readonly time: number;
  readonly channels: number;
  readonly states: number;
  readonly chunk: number;
}

/** Statements that set `channel` and `n` from x, which counts lanes [C, N]. */
export const laneText = `const channel = Math.floor((this.thread.x + 0.5) / states);
    const n = this.thread.x - channel * states;`;

const decays = kernelSource(
  'selectiveScan.decays',
  { delta: 'Input', transition: 'Input', start: 'Integer', states: 'Integer' },
  `${laneText}
    return Math.exp(delta[this.thread.z][start + this.thread.y][channel] * transition[0][channel][n]);`,
);

const entries = kernelSource(
  'selectiveScan.entries',
  { input: 'Input', delta: 'Input', inputMatrix: 'Input', start: 'Integer', states: 'Integer' },
  `const b = this.thread.z;
    const t = start + this.thread.y;
    ${laneText}
    return delta[b][t][channel] * inputMatrix[b][t][n] * input[b][t][channel];`,
);

const readOut = variants((skip: boolean) =>
  kernelSource(
    'selectiveScan.readOut',
    { hidden: 'Input', outputMatrix: 'Input', input: skip && 'Input', skip: skip && 'Input', start: 'Integer', states: 'Integer' },
    `const channel = this.thread.x;
    const y = this.thread.y;
    const b = this.thread.z;
    let sum = ${skip ? 'skip[0][0][channel] * input[b][start + y][channel]' : '0.0'};
    for (let n = 0; n < states; n++) {
      sum += outputMatrix[b][start + y][n] * hidden[b][y][channel * states + n];
    }
    return sum;`,
  ),
);

/** First steps of all chunks of time. */
export function chunkStarts({ time, chunk }: SelectiveScanSettings): number[] {
  return Array.from({ length: Math.ceil(time / chunk) }, (_, index) => index * chunk);
}

/** exp(delta A) and delta B u of the steps of a chunk, all lanes [C, N] side by side. */
export function* laneSteps(inputs: Values, settings: SelectiveScanSettings, start: number): Steps<{ decay: Value; entry: Value }> {
  const { batch, time, channels, states, chunk } = settings;
  const lanes = [channels * states, Math.min(chunk, time - start), batch] as const;
  const decay = yield* step(decays, lanes, [inputs.delta, inputs.transition, start, states]);
  return { decay, entry: yield* step(entries, lanes, [inputs.input, inputs.delta, inputs.inputMatrix, start, states]) };
}

const program: Program<SelectiveScanSettings> = function* (inputs, settings) {
  const { batch, channels, states } = settings;
  const { input, outputMatrix, skip } = inputs;
  const pieces: Value[] = [];
  let { state } = inputs;
  for (const start of chunkStarts(settings)) {
    const { decay, entry } = yield* laneSteps(inputs, settings, start);
    const hidden = yield* scanSteps(decay, entry, false, state);
    const count = hidden.extents[1];
    const readValues = [hidden, outputMatrix, skip && input, skip, start, states];
    pieces.push(yield* step(readOut(skip !== undefined), [channels, count, batch], readValues));
    state = yield* rowSteps(hidden, count - 1);
  }
  return { output: yield* joinSteps(pieces), state: state! };
};

/** Checks the inputs; what the programs need of them. */
export function arrangeSelectiveScan(
  mechanism: string,
  inputs: SelectiveScanInputs,
  options: SelectiveScanOptions,
): { views: Record<string, View | undefined>; settings: SelectiveScanSettings } {
  const { input, delta, transition, inputMatrix, outputMatrix, skip, state } = inputs;
  checkArray(mechanism, 'input', input, [null, null, null]);
  const [batch, time, channels] = input.shape as [number, number, number];
  checkArray(mechanism, 'delta', delta, input.shape);
  checkArray(mechanism, 'transition', transition, [channels, null]);
  const states = transition.shape[1]!;
  checkArray(mechanism, 'inputMatrix', inputMatrix, [batch, time, states]);
  checkArray(mechanism, 'outputMatrix', outputMatrix, [batch, time, states]);
  if (skip) checkArray(mechanism, 'skip', skip, [channels]);
  if (state) checkArray(mechanism, 'state', state, [batch, channels, states]);
  const { chunkSize = Math.max(16, Math.floor(2 ** 22 / (batch * channels * states))) } = options;
  checkCount(mechanism, 'chunkSize', chunkSize);
  return {
    views: {
      input: view(input, channels, time, batch),
      delta: view(delta, channels, time, batch),
      transition: view(transition, states, channels),
      inputMatrix: view(inputMatrix, states, time, batch),
      outputMatrix: view(outputMatrix, states, time, batch),
      skip: skip && view(skip, channels),
      state: state && view(state, channels * states, 1, batch),
    },
    settings: { batch, time, channels, states, chunk: Math.min(time, chunkSize) },
  };
}

/**
 * Selective scan (Mamba): h = exp(delta A) h + delta B u, y = sum_n C h + D u, over all B C N lanes at once.
 *
 * Time goes by in chunks: only the states of one chunk are held at a time.
 *
 * @returns output [B, T, C] and state [B, C, N]
 * @throws SeqLoomError when the shapes do not fit
 */
export async function selectiveScan(
  gpujs: Gpujs,
  inputs: SelectiveScanInputs,
  options: SelectiveScanOptions = {},
): Promise<{ output: GpujsArray; state: GpujsArray }> {
  const { views, settings } = arrangeSelectiveScan('selectiveScan', inputs, options);
  const { batch, channels, states } = settings;
  const results = await gpujs.run({ kernel: 'selectiveScan', inputs: views, settings, program }, options);
  return {
    output: { shape: inputs.input.shape, data: results.output! },
    state: { shape: [batch, channels, states], data: results.state! },
  };
}
