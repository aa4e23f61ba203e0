import { checkArray, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { joinSteps } from './concat.ts';
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

/** The state after a chunk of steps: the recurrence itself, from the state before the chunk. */
export const carry = variants((before: boolean) =>
  kernelSource(
    'linearScan.carry',
    { decay: 'Input', entry: 'Input', before: before && 'Input', first: 'Integer', count: 'Integer', direction: 'Integer' },
    `const x = this.thread.x;
    const b = this.thread.z;
    let value = ${before ? 'before[b][0][x]' : '0.0'};
    for (let i = 0; i < count; i++) {
      const at = first + i * direction;
      value = value * decay[b][at][x] + entry[b][at][x];
    }
    return value;`,
  ),
);

/** The state after every step, from the one before its chunk: row i of `carried` stands before chunk i + skip. */
const fill = variants((carried: boolean) =>
  kernelSource(
    'linearScan.fill',
    {
      decay: 'Input',
      entry: 'Input',
      carried: carried && 'Input',
      skip: carried && 'Integer',
      chunk: 'Integer',
      first: 'Integer',
      direction: 'Integer',
    },
    `const x = this.thread.x;
    const b = this.thread.z;
    const place = (this.thread.y - first) * direction;
    const index = Math.floor((place + 0.5) / chunk);
    let value = 0.0;
    ${carried ? 'if (index >= skip) { value = carried[b][index - skip][x]; }' : ''}
    const begin = index * chunk;
    for (let i = 0; i < place - begin + 1; i++) {
      const at = first + (begin + i) * direction;
      value = value * decay[b][at][x] + entry[b][at][x];
    }
    return value;`,
  ),
);

const rowAt = kernelSource('linearScan.rowAt', { hidden: 'Input', at: 'Integer' }, 'return hidden[this.thread.z][at][this.thread.x];');

/**
 * h_t = a_t h_{t-1} + b_t along y, in chunks of about sqrt(T) steps: a run per chunk carries the state along, a last one fills the chunks in.
 *
 * No decays are multiplied with one another, so nothing overflows that the recurrence itself would not.
 */
export function* scanSteps(decay: Value, entry: Value, reverse: boolean, state?: Value): Steps<Value> {
  const [x, time, z] = entry.extents;
  const [first, direction] = reverse ? [time - 1, -1] : [0, 1];
  const chunk = Math.ceil(Math.sqrt(time));
  const borders = state ? [state] : [];
  const skip = 1 - borders.length;
  for (let start = 0; start + chunk < time; start += chunk) {
    const before = borders.at(-1);
    const values = [decay, entry, before, first + start * direction, chunk, direction];
    borders.push(yield* step(carry(before !== undefined), [x, 1, z], values));
  }
  const carried = borders.length > 0;
  const places = carried ? [yield* joinSteps(borders), skip] : [];
  return yield* step(fill(carried), [x, time, z], [decay, entry, ...places, chunk, first, direction]);
}

/** The row y = at of a value. */
export function* rowSteps(hidden: Value, at: number): Steps<Value> {
  return yield* step(rowAt, [hidden.extents[0], 1, hidden.extents[2]], [hidden, at]);
}

const forward: Program<Settings> = function* ({ decay, input, state }, { time, reverse }) {
  const hidden = yield* scanSteps(decay!, input!, reverse, state);
  return { hidden, state: yield* rowSteps(hidden, reverse ? 0 : time - 1) };
};

/** The gradient of all states, with that of the final state at its place. */
export const joinCotangents = kernelSource(
  'linearScan.joinCotangents',
  { ofHidden: 'Input', ofState: 'Input', last: 'Integer' },
  `const x = this.thread.x;
  const t = this.thread.y;
  const b = this.thread.z;
  let value = ofHidden[b][t][x];
  if (t === last) { value = value + ofState[b][0][x]; }
  return value;`,
);

/** The decay of the step that follows, 0 after the last. */
export const neighbourDecay = kernelSource(
  'linearScan.neighbourDecay',
  { decay: 'Input', offset: 'Integer', time: 'Integer' },
  `const from = this.thread.y + offset;
  let value = 0.0;
  if (from >= 0 && from < time) { value = decay[this.thread.z][from][this.thread.x]; }
  return value;`,
);

/** The gradient of the decays: what stood before a step, times what is carried back to it. */
export const ofDecay = variants((state: boolean) =>
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

/** The gradient of the state before the first step. */
export const ofState = kernelSource(
  'linearScan.ofState',
  { decay: 'Input', carried: 'Input', first: 'Integer' },
  'return decay[this.thread.z][first][this.thread.x] * carried[this.thread.z][first][this.thread.x];',
);

const backward: Program<Settings> = function* (inputs, { batch, time, channels, reverse }) {
  const { decay, hidden, state, cotangent, stateCotangent } = inputs;
  const [first, last] = reverse ? [time - 1, 0] : [0, time - 1];
  const offset = reverse ? -1 : 1;
  const extents = [channels, time, batch] as const;
  const start = stateCotangent ? yield* step(joinCotangents, extents, [cotangent, stateCotangent, last]) : cotangent!;
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
 * Linear recurrence h_t = a_t h_{t-1} + b_t per channel, in one plan of 2 sqrt(T) runs; at most sqrt(T) steps are computed again per number.
 *
 * Decays may have any magnitude: they are never multiplied with one another, so nothing overflows before the recurrence itself does.
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
