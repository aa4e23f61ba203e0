import { fail } from '@seqloom/core/error';
import { checkArray, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { joinSteps } from './concat.ts';
import { joinCotangents, neighbourDecay, rowSteps } from './linear-scan.ts';
import type { LinearScanOptions } from './linear-scan.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program, Steps, Value } from './program.ts';
import type { Gpujs } from './run.ts';

/** Inputs of `complexLinearScan`: each number as a real and an imaginary part. */
export interface ComplexLinearScanInputs {
  /** [B, T, C] */
  readonly decayReal: GpujsArray;
  readonly decayImaginary: GpujsArray;
  /** [B, T, C] */
  readonly inputReal: GpujsArray;
  readonly inputImaginary: GpujsArray;
  /** [B, C]; both parts or neither */
  readonly stateReal?: GpujsArray | undefined;
  readonly stateImaginary?: GpujsArray | undefined;
}

interface Settings {
  readonly batch: number;
  readonly time: number;
  readonly channels: number;
  readonly reverse: boolean;
}

type Part = 'real' | 'imaginary';
type Complex = readonly [real: Value, imaginary: Value];

// a kernel has one output: both parts are carried along in a thread, and one is its result
const advance = `const re = decayReal[b][at][x];
      const im = decayImaginary[b][at][x] * sign;
      const next = real * re - imaginary * im + entryReal[b][at][x];
      imaginary = real * im + imaginary * re + entryImaginary[b][at][x];
      real = next;`;

const terms = { decayReal: 'Input', decayImaginary: 'Input', entryReal: 'Input', entryImaginary: 'Input' } as const;

/** The state after a chunk of steps, from the state before it. */
const carry = variants((before: boolean, part: Part) =>
  kernelSource(
    'complexLinearScan.carry',
    {
      ...terms,
      beforeReal: before && 'Input',
      beforeImaginary: before && 'Input',
      sign: 'Float',
      first: 'Integer',
      count: 'Integer',
      direction: 'Integer',
    },
    `const x = this.thread.x;
    const b = this.thread.z;
    let real = ${before ? 'beforeReal[b][0][x]' : '0.0'};
    let imaginary = ${before ? 'beforeImaginary[b][0][x]' : '0.0'};
    for (let i = 0; i < count; i++) {
      const at = first + i * direction;
      ${advance}
    }
    return ${part};`,
  ),
);

/** The state after every step, from the one before its chunk: row i of `carried` stands before chunk i + skip. */
const fill = variants((carried: boolean, part: Part) =>
  kernelSource(
    'complexLinearScan.fill',
    {
      ...terms,
      carriedReal: carried && 'Input',
      carriedImaginary: carried && 'Input',
      skip: carried && 'Integer',
      sign: 'Float',
      chunk: 'Integer',
      first: 'Integer',
      direction: 'Integer',
    },
    `const x = this.thread.x;
    const b = this.thread.z;
    const place = (this.thread.y - first) * direction;
    const index = Math.floor((place + 0.5) / chunk);
    let real = 0.0;
    let imaginary = 0.0;
    ${carried ? 'if (index >= skip) { real = carriedReal[b][index - skip][x]; imaginary = carriedImaginary[b][index - skip][x]; }' : ''}
    const begin = index * chunk;
    for (let i = 0; i < place - begin + 1; i++) {
      const at = first + (begin + i) * direction;
      ${advance}
    }
    return ${part};`,
  ),
);

/** h_t = a_t h_{t-1} + b_t along y as `scanSteps` has it, with a conjugated where `conjugate` says so. */
function* complexScanSteps(decay: Complex, entry: Complex, reverse: boolean, conjugate: boolean, state?: Complex): Steps<Complex> {
  const [x, time, z] = entry[0].extents;
  const [first, direction] = reverse ? [time - 1, -1] : [0, 1];
  const sign = conjugate ? -1 : 1;
  const chunk = Math.ceil(Math.sqrt(time));
  const borders: Complex[] = state ? [state] : [];
  const skip = 1 - borders.length;
  for (let start = 0; start + chunk < time; start += chunk) {
    const before = borders.at(-1);
    const values = [...decay, ...entry, ...(before ?? []), sign, first + start * direction, chunk, direction];
    const real = yield* step(carry(before !== undefined, 'real'), [x, 1, z], values);
    borders.push([real, yield* step(carry(before !== undefined, 'imaginary'), [x, 1, z], values)]);
  }
  const carried = borders.length > 0;
  const places: (Value | number)[] = [];
  if (carried) {
    const real = yield* joinSteps(borders.map((border) => border[0]));
    places.push(real, yield* joinSteps(borders.map((border) => border[1])), skip);
  }
  const values = [...decay, ...entry, ...places, sign, chunk, first, direction];
  const real = yield* step(fill(carried, 'real'), [x, time, z], values);
  return [real, yield* step(fill(carried, 'imaginary'), [x, time, z], values)];
}

const forward: Program<Settings> = function* (inputs, { time, reverse }) {
  const { decayReal, decayImaginary, inputReal, inputImaginary, stateReal, stateImaginary } = inputs;
  const state: Complex | undefined = stateReal && [stateReal, stateImaginary!];
  const hidden = yield* complexScanSteps([decayReal!, decayImaginary!], [inputReal!, inputImaginary!], reverse, false, state);
  const last = reverse ? 0 : time - 1;
  return {
    hiddenReal: hidden[0],
    hiddenImaginary: hidden[1],
    stateReal: yield* rowSteps(hidden[0], last),
    stateImaginary: yield* rowSteps(hidden[1], last),
  };
};

/** g_t conj(h_{t-1}) */
const ofDecay = variants((state: boolean, part: Part) =>
  kernelSource(
    'complexLinearScan.ofDecay',
    {
      hiddenReal: 'Input',
      hiddenImaginary: 'Input',
      carriedReal: 'Input',
      carriedImaginary: 'Input',
      stateReal: state && 'Input',
      stateImaginary: state && 'Input',
      offset: 'Integer',
      time: 'Integer',
    },
    `const x = this.thread.x;
    const t = this.thread.y;
    const b = this.thread.z;
    const from = t - offset;
    let real = ${state ? 'stateReal[b][0][x]' : '0.0'};
    let imaginary = ${state ? 'stateImaginary[b][0][x]' : '0.0'};
    if (from >= 0 && from < time) { real = hiddenReal[b][from][x]; imaginary = hiddenImaginary[b][from][x]; }
    return ${
      part === 'real'
        ? 'carriedReal[b][t][x] * real + carriedImaginary[b][t][x] * imaginary'
        : 'carriedImaginary[b][t][x] * real - carriedReal[b][t][x] * imaginary'
    };`,
  ),
);

/** conj(a) g at the first step */
const ofState = variants((part: Part) =>
  kernelSource(
    'complexLinearScan.ofState',
    { decayReal: 'Input', decayImaginary: 'Input', carriedReal: 'Input', carriedImaginary: 'Input', first: 'Integer' },
    `const x = this.thread.x;
    const b = this.thread.z;
    return ${
      part === 'real'
        ? 'decayReal[b][first][x] * carriedReal[b][first][x] + decayImaginary[b][first][x] * carriedImaginary[b][first][x]'
        : 'decayReal[b][first][x] * carriedImaginary[b][first][x] - decayImaginary[b][first][x] * carriedReal[b][first][x]'
    };`,
  ),
);

const backward: Program<Settings> = function* (inputs, { batch, time, channels, reverse }) {
  const decay: Complex = [inputs.decayReal!, inputs.decayImaginary!];
  const hidden: Complex = [inputs.hiddenReal!, inputs.hiddenImaginary!];
  const state: Value[] = inputs.stateReal ? [inputs.stateReal, inputs.stateImaginary!] : [];
  const [first, last] = reverse ? [time - 1, 0] : [0, time - 1];
  const offset = reverse ? -1 : 1;
  const extents = [channels, time, batch] as const;
  let start: Complex = [inputs.cotangentReal!, inputs.cotangentImaginary!];
  if (inputs.stateCotangentReal) {
    const real = yield* step(joinCotangents, extents, [start[0], inputs.stateCotangentReal, last]);
    start = [real, yield* step(joinCotangents, extents, [start[1], inputs.stateCotangentImaginary, last])];
  }
  // g_t = c_t + conj(a_{t+1}) g_{t+1}
  const nextReal = yield* step(neighbourDecay, extents, [decay[0], offset, time]);
  const next: Complex = [nextReal, yield* step(neighbourDecay, extents, [decay[1], offset, time])];
  const carried = yield* complexScanSteps(next, start, !reverse, true);
  const values = [...hidden, ...carried, ...state, offset, time];
  const gradients: Record<string, Value> = {
    inputReal: carried[0],
    inputImaginary: carried[1],
    decayReal: yield* step(ofDecay(state.length > 0, 'real'), extents, values),
    decayImaginary: yield* step(ofDecay(state.length > 0, 'imaginary'), extents, values),
  };
  if (state.length > 0) {
    gradients.stateReal = yield* step(ofState('real'), [channels, 1, batch], [...decay, ...carried, first]);
    gradients.stateImaginary = yield* step(ofState('imaginary'), [channels, 1, batch], [...decay, ...carried, first]);
  }
  return gradients;
};

/** Checks that both parts of an array are there or neither, each of a shape. */
function checkParts(
  mechanism: string,
  name: string,
  real: GpujsArray | undefined,
  imaginary: GpujsArray | undefined,
  shape: number[],
): void {
  if (!real !== !imaginary) {
    const argument = real ? `${name}Imaginary` : `${name}Real`;
    fail({ mechanism, argument, wanted: 'given with the other part', given: 'nothing', remedy: 'Give both parts or neither.' });
  }
  if (real) checkArray(mechanism, `${name}Real`, real, shape);
  if (imaginary) checkArray(mechanism, `${name}Imaginary`, imaginary, shape);
}

type Parts = Readonly<Record<string, GpujsArray | undefined>>;

/** Sees arrays [B, T, C] and [B, C] with three extents. */
function viewsOf(parts: Parts, { batch, time, channels }: Settings): Record<string, View | undefined> {
  return Object.fromEntries(
    Object.entries(parts).map(([name, array]) => [name, array && view(array, channels, array.shape.length === 3 ? time : 1, batch)]),
  );
}

function settingsOf(mechanism: string, decay: GpujsArray, reverse = false): { settings: Settings; shape: number[]; stateShape: number[] } {
  checkArray(mechanism, 'decayReal', decay, [null, null, null]);
  const [batch, time, channels] = decay.shape as [number, number, number];
  return { settings: { batch, time, channels, reverse }, shape: [batch, time, channels], stateShape: [batch, channels] };
}

/**
 * Linear recurrence h_t = a_t h_{t-1} + b_t of complex numbers per channel, real and imaginary parts apart; as `linearScan` runs, each part in its own runs.
 *
 * @returns hiddenReal and hiddenImaginary [B, T, C], stateReal and stateImaginary [B, C], the hidden value computed last
 * @throws SeqLoomError when the shapes do not fit, or only one part of the state is given
 */
export async function complexLinearScan(
  gpujs: Gpujs,
  inputs: ComplexLinearScanInputs,
  options: LinearScanOptions = {},
): Promise<{ hiddenReal: GpujsArray; hiddenImaginary: GpujsArray; stateReal: GpujsArray; stateImaginary: GpujsArray }> {
  const mechanism = 'complexLinearScan';
  const { decayReal, decayImaginary, inputReal, inputImaginary, stateReal, stateImaginary } = inputs;
  const { settings, shape, stateShape } = settingsOf(mechanism, decayReal, options.reverse);
  checkParts(mechanism, 'decay', decayReal, decayImaginary, shape);
  checkParts(mechanism, 'input', inputReal, inputImaginary, shape);
  checkParts(mechanism, 'state', stateReal, stateImaginary, stateShape);
  const views = viewsOf({ decayReal, decayImaginary, inputReal, inputImaginary, stateReal, stateImaginary }, settings);
  const found = await gpujs.run({ kernel: mechanism, inputs: views, settings, program: forward }, options);
  return {
    hiddenReal: { shape, data: found.hiddenReal! },
    hiddenImaginary: { shape, data: found.hiddenImaginary! },
    stateReal: { shape: stateShape, data: found.stateReal! },
    stateImaginary: { shape: stateShape, data: found.stateImaginary! },
  };
}

/** Inputs of `complexLinearScanGradient`. */
export interface ComplexLinearScanGradientInputs extends Omit<ComplexLinearScanInputs, 'inputReal' | 'inputImaginary'> {
  /** [B, T, C], as `complexLinearScan` gave it */
  readonly hiddenReal: GpujsArray;
  readonly hiddenImaginary: GpujsArray;
  /** gradient of both parts of hidden [B, T, C] */
  readonly cotangentReal: GpujsArray;
  readonly cotangentImaginary: GpujsArray;
  /** gradient of both parts of the final state [B, C]; zeros when left out */
  readonly stateCotangentReal?: GpujsArray | undefined;
  readonly stateCotangentImaginary?: GpujsArray | undefined;
}

/**
 * Gradients of `complexLinearScan`: a scan of the conjugate decays in the other direction.
 *
 * @returns both parts of decay and input [B, T, C], and of state [B, C] where one was given
 * @throws SeqLoomError when the shapes do not fit, or only one part of the state or its cotangent is given
 */
export async function complexLinearScanGradient(
  gpujs: Gpujs,
  inputs: ComplexLinearScanGradientInputs,
  options: LinearScanOptions = {},
): Promise<{ [K in keyof ComplexLinearScanInputs]: GpujsArray }> {
  const mechanism = 'complexLinearScanGradient';
  const { decayReal, decayImaginary, hiddenReal, hiddenImaginary, stateReal, stateImaginary } = inputs;
  const { cotangentReal, cotangentImaginary, stateCotangentReal, stateCotangentImaginary } = inputs;
  const { settings, shape, stateShape } = settingsOf(mechanism, decayReal, options.reverse);
  checkParts(mechanism, 'decay', decayReal, decayImaginary, shape);
  checkParts(mechanism, 'hidden', hiddenReal, hiddenImaginary, shape);
  checkParts(mechanism, 'cotangent', cotangentReal, cotangentImaginary, shape);
  checkParts(mechanism, 'state', stateReal, stateImaginary, stateShape);
  checkParts(mechanism, 'stateCotangent', stateCotangentReal, stateCotangentImaginary, stateShape);
  const parts = {
    ...{ decayReal, decayImaginary, hiddenReal, hiddenImaginary, stateReal, stateImaginary },
    ...{ cotangentReal, cotangentImaginary, stateCotangentReal, stateCotangentImaginary },
  };
  const found = await gpujs.run({ kernel: mechanism, inputs: viewsOf(parts, settings), settings, program: backward }, options);
  return {
    decayReal: { shape, data: found.decayReal! },
    decayImaginary: { shape, data: found.decayImaginary! },
    inputReal: { shape, data: found.inputReal! },
    inputImaginary: { shape, data: found.inputImaginary! },
    ...(stateReal && { stateReal: { shape: stateShape, data: found.stateReal! } }),
    ...(stateImaginary && { stateImaginary: { shape: stateShape, data: found.stateImaginary! } }),
  };
}
