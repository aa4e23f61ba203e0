import { checkArray, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program, Steps, Value } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `linearScan`. */
export interface LinearScanInputs {
  /** [B, T, C] */
  readonly decay: GpujsArray;
  /** [B, T, C] */
  readonly input: GpujsArray;
  /** [B, C] */
  readonly state?: GpujsArray | undefined;
}

/** Options of `linearScan`. */
export interface LinearScanOptions extends Placement {
  /** from the last step to the first */
  readonly reverse?: boolean;
}

interface Settings {
  readonly batch: number;
  readonly time: number;
  readonly channels: number;
  readonly reverse: boolean;
}

const begin = variants((state: boolean) =>
  kernelSource(
    'linearScan.begin',
    { decay: 'Input', input: 'Input', state: state && 'Input', first: 'Integer' },
    `const x = this.thread.x;
    const t = this.thread.y;
    const b = this.thread.z;
    let value = input[b][t][x];
    ${state ? 'if (t === first) { value = value + decay[b][t][x] * state[b][0][x]; }' : ''}
    return value;`,
  ),
);

const doubleHidden = kernelSource(
  'linearScan.doubleHidden',
  { decay: 'Input', hidden: 'Input', offset: 'Integer', time: 'Integer' },
  `const x = this.thread.x;
  const t = this.thread.y;
  const b = this.thread.z;
  const from = t - offset;
  let value = hidden[b][t][x];
  if (from >= 0 && from < time) { value = value + decay[b][t][x] * hidden[b][from][x]; }
  return value;`,
);

const doubleDecay = kernelSource(
  'linearScan.doubleDecay',
  { decay: 'Input', offset: 'Integer', time: 'Integer' },
  `const x = this.thread.x;
  const t = this.thread.y;
  const b = this.thread.z;
  const from = t - offset;
  let value = decay[b][t][x];
  if (from >= 0 && from < time) { value = value * decay[b][from][x]; }
  return value;`,
);

const rowAt = kernelSource('linearScan.rowAt', { hidden: 'Input', at: 'Integer' }, 'return hidden[this.thread.z][at][this.thread.x];');

/** h_t = a_t h_{t-1} + b_t along y, by doubling: after the pass with offset 2^i every number has seen 2^(i+1) steps. */
export function* scanSteps(decay: Value, hidden: Value, reverse: boolean): Steps<Value> {
  const [x, time, z] = hidden.extents;
  let [a, h] = [decay, hidden];
  for (let reach = 1; reach < time; reach *= 2) {
    const offset = reverse ? -reach : reach;
    const next = yield* step(doubleHidden, [x, time, z], [a, h, offset, time]);
    if (2 * reach < time) a = yield* step(doubleDecay, [x, time, z], [a, offset, time]);
    h = next;
  }
  return h;
}

/** The row y = at of a value. */
export function* rowSteps(hidden: Value, at: number): Steps<Value> {
  return yield* step(rowAt, [hidden.extents[0], 1, hidden.extents[2]], [hidden, at]);
}

const forward: Program<Settings> = function* ({ decay, input, state }, { batch, time, channels, reverse }) {
  const first = reverse ? time - 1 : 0;
  const start = yield* step(begin(state !== undefined), [channels, time, batch], [decay, input, state, first]);
  const hidden = yield* scanSteps(decay!, start, reverse);
  return { hidden, state: yield* rowSteps(hidden, reverse ? 0 : time - 1) };
};

const joinCotangents = kernelSource(
  'linearScan.joinCotangents',
  { ofHidden: 'Input', ofState: 'Input', last: 'Integer' },
  `const x = this.thread.x;
  const t = this.thread.y;
  const b = this.thread.z;
  let value = ofHidden[b][t][x];
  if (t === last) { value = value + ofState[b][0][x]; }
  return value;`,
);

const neighbourDecay = kernelSource(
  'linearScan.neighbourDecay',
  { decay: 'Input', offset: 'Integer', time: 'Integer' },
  `const from = this.thread.y + offset;
  let value = 0.0;
  if (from >= 0 && from < time) { value = decay[this.thread.z][from][this.thread.x]; }
  return value;`,
);

const ofDecay = variants((state: boolean) =>
  kernelSource(
    'linearScan.ofDecay',
    { hidden: 'Input', carried: 'Input', state: state && 'Input', offset: 'Integer', time: 'Integer' },
    `const x = this.thread.x;
    const b = this.thread.z;
    const from = this.thread.y - offset;
    let before = ${state ? 'state[b][0][x]' : '0.0'};
    if (from >= 0 && from < time) { before = hidden[b][from][x]; }
    return before * carried[b][this.thread.y][x];`,
  ),
);

const ofState = kernelSource(
  'linearScan.ofState',
  { decay: 'Input', carried: 'Input', first: 'Integer' },
  'return decay[this.thread.z][first][this.thread.x] * carried[this.thread.z][first][this.thread.x];',
);

const backward: Program<Settings> = function* (inputs, { batch, time, channels, reverse }) {
  const { decay, hidden, state, cotangent, stateCotangent } = inputs;
  const [first, last] = reverse ? [time - 1, 0] : [0, time - 1];
  const offset = reverse ? -1 : 1;
  const extents = [channels, time, batch] as const;
  let start: Value;
  if (stateCotangent) start = yield* step(joinCotangents, extents, [cotangent, stateCotangent, last]);
  else start = yield* step(begin(false), extents, [decay, cotangent, last]);
  // g_t = c_t + a_{t+1} g_{t+1}: the same scan the other way, with its neighbour's decay
  const next = yield* step(neighbourDecay, extents, [decay, offset, time]);
  const carried = yield* scanSteps(next, start, !reverse);
  const gradients: Record<string, Value> = {
    input: carried,
    decay: yield* step(ofDecay(state !== undefined), extents, [hidden, carried, state, offset, time]),
  };
  if (state) gradients.state = yield* step(ofState, [channels, 1, batch], [decay, carried, first]);
  return gradients;
};

function arrange(inputs: LinearScanInputs, reverse: boolean): { views: Record<string, View | undefined>; settings: Settings } {
  const { decay, input, state } = inputs;
  checkArray('linearScan', 'decay', decay, [null, null, null]);
  const [batch, time, channels] = decay.shape as [number, number, number];
  checkArray('linearScan', 'input', input, decay.shape);
  if (state) checkArray('linearScan', 'state', state, [batch, channels]);
  return {
    views: {
      decay: view(decay, channels, time, batch),
      input: view(input, channels, time, batch),
      state: state && view(state, channels, 1, batch),
    },
    settings: { batch, time, channels, reverse },
  };
}

/**
 * Linear recurrence h_t = a_t h_{t-1} + b_t per channel, by doubling: 2 ceil(log2 T) passes in one plan, T log T work.
 *
 * Decays are at most 1 in magnitude: products of larger ones over 2^i steps can overflow before the recurrence itself would.
 *
 * @returns hidden [B, T, C], and state [B, C], the hidden value computed last
 * @throws SeqLoomError when the shapes do not fit
 */
export async function linearScan(
  gpujs: Gpujs,
  inputs: LinearScanInputs,
  options: LinearScanOptions = {},
): Promise<{ hidden: GpujsArray; state: GpujsArray }> {
  const { views, settings } = arrange(inputs, options.reverse ?? false);
  const { hidden, state } = await gpujs.run({ kernel: 'linearScan', inputs: views, settings, program: forward }, options);
  return { hidden: { shape: inputs.input.shape, data: hidden! }, state: { shape: [settings.batch, settings.channels], data: state! } };
}

/** Inputs of `linearScanGradient`. */
export interface LinearScanGradientInputs extends Omit<LinearScanInputs, 'input'> {
  /** [B, T, C], as `linearScan` gave it */
  readonly hidden: GpujsArray;
  /** gradient of hidden [B, T, C] */
  readonly cotangent: GpujsArray;
  /** gradient of the final state [B, C] */
  readonly stateCotangent?: GpujsArray | undefined;
}

/**
 * Gradients of `linearScan`: a scan in the other direction.
 *
 * @returns decay and input [B, T, C], and state [B, C] where one was given
 */
export async function linearScanGradient(
  gpujs: Gpujs,
  inputs: LinearScanGradientInputs,
  options: LinearScanOptions = {},
): Promise<{ decay: GpujsArray; input: GpujsArray; state?: GpujsArray }> {
  const { hidden, cotangent, stateCotangent } = inputs;
  const { views, settings } = arrange({ ...inputs, input: hidden }, options.reverse ?? false);
  const { batch, time, channels } = settings;
  checkArray('linearScanGradient', 'cotangent', cotangent, hidden.shape);
  if (stateCotangent) checkArray('linearScanGradient', 'stateCotangent', stateCotangent, [batch, channels]);
  const all = {
    decay: views.decay,
    hidden: views.input,
    state: views.state,
    cotangent: view(cotangent, channels, time, batch),
    stateCotangent: stateCotangent && view(stateCotangent, channels, 1, batch),
  };
  const gradients = await gpujs.run({ kernel: 'linearScanGradient', inputs: all, settings, program: backward }, options);
  return {
    decay: { shape: hidden.shape, data: gradients.decay! },
    input: { shape: hidden.shape, data: gradients.input! },
    ...(inputs.state && { state: { shape: inputs.state.shape, data: gradients.state! } }),
  };
}
