import { sigmoidText } from './activation.ts';
import { checkArray, view } from './array.ts';
import type { GpujsArray } from './array.ts';
import { arrangeConvolution } from './causal-conv1d.ts';
import type { CausalConv1dInputs, CausalConv1dOptions, ConvolutionSettings } from './causal-conv1d.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program, Steps, Value } from './program.ts';
import type { Gpujs } from './run.ts';

/** Statements that set `value` to the number at `from`, counted from the first token: before it stands the state. */
const readToken = (state: boolean): string =>
  `let value = 0.0;
    if (from >= 0) { value = input[b][from][c]; }
    ${state ? 'if (from < 0) { value = state[b][from + taps - 1][c]; }' : ''}`;

const ofSum = variants((bias: boolean, state: boolean, lengths: boolean, silu: boolean) =>
  kernelSource(
    'causalConv1d.ofSum',
    {
      cotangent: 'Input',
      input: silu && 'Input',
      weight: silu && 'Input',
      bias: silu && bias && 'Input',
      state: silu && state && 'Input',
      lengths: lengths && 'Input',
      taps: silu && 'Integer',
    },
    `const c = this.thread.x;
    const t = this.thread.y;
    const b = this.thread.z;
    let given = cotangent[b][t][c];
    ${
      silu
        ? `let sum = ${bias ? 'bias[0][0][c]' : '0.0'};
    for (let tap = 0; tap < taps; tap++) {
      const from = t + tap - (taps - 1);
      ${readToken(state)}
      sum += weight[0][c][tap] * value;
    }
    ${sigmoidText('opened', 'sum')}
    given = given * opened * (1 + sum * (1 - opened));`
        : ''
    }
    ${lengths ? 'if (t >= lengths[0][0][b]) { given = 0.0; }' : ''}
    return given;`,
  ),
);

/** Gradient of state and input in one row of time, the part of it that begins at `start`. */
const ofTokens = variants((stateCotangent: boolean, lengths: boolean) =>
  kernelSource(
    'causalConv1d.ofTokens',
    {
      given: 'Input',
      weight: 'Input',
      stateCotangent: stateCotangent && 'Input',
      lengths: stateCotangent && lengths && 'Input',
      taps: 'Integer',
      time: 'Integer',
      start: 'Integer',
    },
    `const c = this.thread.x;
    const b = this.thread.z;
    const at = this.thread.y + start;
    let sum = 0.0;
    for (let tap = 0; tap < taps; tap++) {
      const to = at - tap;
      if (to >= 0 && to < time) { sum += weight[0][c][tap] * given[b][to][c]; }
    }
    ${
      stateCotangent
        ? `const row = at - ${lengths ? 'lengths[0][0][b]' : 'time'};
    if (row >= 0 && row < taps - 1) { sum += stateCotangent[b][row][c]; }`
        : ''
    }
    return sum;`,
  ),
);

const ofWeight = variants((state: boolean, lengths: boolean) =>
  kernelSource(
    'causalConv1d.ofWeight',
    {
      given: 'Input',
      input: 'Input',
      state: state && 'Input',
      lengths: lengths && 'Input',
      taps: 'Integer',
      time: 'Integer',
    },
    `const c = this.thread.y;
    const b = this.thread.z;
    let sum = 0.0;
    for (let t = 0; t < ${lengths ? 'lengths[0][0][b]' : 'time'}; t++) {
      const from = t + this.thread.x - (taps - 1);
      ${readToken(state)}
      sum += given[b][t][c] * value;
    }
    return sum;`,
  ),
);

const ofBias = kernelSource(
  'causalConv1d.ofBias',
  { given: 'Input', time: 'Integer' },
  `let sum = 0.0;
  for (let t = 0; t < time; t++) { sum += given[this.thread.z][t][this.thread.x]; }
  return sum;`,
);

const overBatch = kernelSource(
  'causalConv1d.overBatch',
  { parts: 'Input', batch: 'Integer' },
  `let sum = 0.0;
  for (let b = 0; b < batch; b++) { sum += parts[b][this.thread.y][this.thread.x]; }
  return sum;`,
);

function* addBatch(parts: Value): Steps<Value> {
  const [x, y, batch] = parts.extents;
  return batch === 1 ? parts : yield* step(overBatch, [x, y, 1], [parts, batch]);
}

const backward: Program<ConvolutionSettings> = function* (inputs, { batch, time, channels, taps, silu }) {
  const { input, weight, bias, state, lengths, cotangent, stateCotangent } = inputs;
  const [hasState, hasLengths] = [state !== undefined, lengths !== undefined];
  let given = cotangent!;
  if (silu) {
    const kernel = ofSum(bias !== undefined, hasState, hasLengths, true);
    given = yield* step(kernel, [channels, time, batch], [cotangent, input, weight, bias, state, lengths, taps]);
  } else if (lengths) given = yield* step(ofSum(false, false, true, false), [channels, time, batch], [cotangent, lengths]);
  const tokens = ofTokens(stateCotangent !== undefined, hasLengths);
  const ends = stateCotangent && lengths;
  const gradients: Record<string, Value> = {
    input: yield* step(tokens, [channels, time, batch], [given, weight, stateCotangent, ends, taps, time, taps - 1]),
    weight: yield* addBatch(
      yield* step(ofWeight(hasState, hasLengths), [taps, channels, batch], [given, input, state, lengths, taps, time]),
    ),
  };
  if (bias) gradients.bias = yield* addBatch(yield* step(ofBias, [channels, 1, batch], [given, time]));
  if (state) gradients.state = yield* step(tokens, [channels, taps - 1, batch], [given, weight, stateCotangent, ends, taps, time, 0]);
  return gradients;
};

/** Inputs of `causalConv1dGradient`. */
export interface CausalConv1dGradientInputs extends CausalConv1dInputs {
  /** gradient of the output [B, T, C] */
  readonly cotangent: GpujsArray;
  /** gradient of the new state [B, K - 1, C] */
  readonly stateCotangent?: GpujsArray | undefined;
}

/**
 * Gradients of `causalConv1d`: every token reaches the K - 1 outputs after it and, at the end, the new state.
 *
 * @returns input [B, T, C], zero at pads, weight [C, K], and bias [C] and state [B, K - 1, C] where they were given
 * @throws SeqLoomError when the shapes do not fit
 */
export async function causalConv1dGradient(
  gpujs: Gpujs,
  inputs: CausalConv1dGradientInputs,
  options: CausalConv1dOptions = {},
): Promise<{ input: GpujsArray; weight: GpujsArray; bias?: GpujsArray; state?: GpujsArray }> {
  const { views, settings } = arrangeConvolution('causalConv1dGradient', inputs, options);
  const { input, weight, bias, state, cotangent, stateCotangent } = inputs;
  const { batch, time, channels, taps } = settings;
  checkArray('causalConv1dGradient', 'cotangent', cotangent, input.shape);
  if (stateCotangent && taps > 1) checkArray('causalConv1dGradient', 'stateCotangent', stateCotangent, [batch, taps - 1, channels]);
  const all = {
    ...views,
    cotangent: view(cotangent, channels, time, batch),
    stateCotangent: stateCotangent && taps > 1 ? view(stateCotangent, channels, taps - 1, batch) : undefined,
  };
  const gradients = await gpujs.run({ kernel: 'causalConv1dGradient', inputs: all, settings, program: backward }, options);
  return {
    input: { shape: input.shape, data: gradients.input! },
    weight: { shape: weight.shape, data: gradients.weight! },
    ...(bias && { bias: { shape: bias.shape, data: gradients.bias! } }),
    ...(state && { state: { shape: state.shape, data: gradients.state ?? new Float32Array(0) } }),
  };
}
