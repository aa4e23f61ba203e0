import { sigmoidText } from './activation.ts';
import { checkArray, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program, Value } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `causalConv1d`. */
export interface CausalConv1dInputs {
  /** [B, T, C] */
  readonly input: GpujsArray;
  /** [C, K], tap K - 1 is the current token */
  readonly weight: GpujsArray;
  /** [C] */
  readonly bias?: GpujsArray | undefined;
  /** [B, K - 1, C], oldest first; zeros when left out; there is none for K = 1 */
  readonly state?: GpujsArray | undefined;
  /** [B], valid tokens per row */
  readonly lengths?: GpujsArray | undefined;
}

/** Options of `causalConv1d`. */
export interface CausalConv1dOptions extends Placement {
  readonly activation?: 'none' | 'silu';
}

/** What decides on a convolution's program. */
export interface ConvolutionSettings {
  readonly batch: number;
  readonly time: number;
  readonly channels: number;
  readonly taps: number;
  readonly silu: boolean;
}

const convolve = variants((bias: boolean, state: boolean, lengths: boolean, silu: boolean) =>
  kernelSource(
    'causalConv1d',
    {
      input: 'Input',
      weight: 'Input',
      bias: bias && 'Input',
      state: state && 'Input',
      lengths: lengths && 'Input',
      taps: 'Integer',
    },
    `const c = this.thread.x;
    const t = this.thread.y;
    const b = this.thread.z;
    let sum = ${bias ? 'bias[0][0][c]' : '0.0'};
    for (let tap = 0; tap < taps; tap++) {
      const from = t + tap - (taps - 1);
      if (from >= 0) { sum += weight[0][c][tap] * input[b][from][c]; }
      ${state ? 'if (from < 0) { sum += weight[0][c][tap] * state[b][from + taps - 1][c]; }' : ''}
    }
    ${silu ? `${sigmoidText('opened', 'sum')}\n    sum = sum * opened;` : ''}
    ${lengths ? 'if (t >= lengths[0][0][b]) { sum = 0.0; }' : ''}
    return sum;`,
  ),
);

const lastRows = variants((state: boolean, lengths: boolean) =>
  kernelSource(
    'causalConv1d.state',
    { input: 'Input', state: state && 'Input', lengths: lengths && 'Input', taps: 'Integer', time: 'Integer' },
    `const c = this.thread.x;
    const b = this.thread.z;
    const from = ${lengths ? 'lengths[0][0][b]' : 'time'} + this.thread.y - (taps - 1);
    let value = 0.0;
    if (from >= 0) { value = input[b][from][c]; }
    ${state ? 'if (from < 0) { value = state[b][from + taps - 1][c]; }' : ''}
    return value;`,
  ),
);

const program: Program<ConvolutionSettings> = function* ({ input, weight, bias, state, lengths }, { batch, time, channels, taps, silu }) {
  const kernel = convolve(bias !== undefined, state !== undefined, lengths !== undefined, silu);
  const outputs: Record<string, Value> = {
    output: yield* step(kernel, [channels, time, batch], [input, weight, bias, state, lengths, taps]),
  };
  if (taps > 1) {
    const rows = lastRows(state !== undefined, lengths !== undefined);
    outputs.state = yield* step(rows, [channels, taps - 1, batch], [input, state, lengths, taps, time]);
  }
  return outputs;
};

/** Checks the inputs and sees them as the kernels do. */
export function arrangeConvolution(
  kernel: string,
  inputs: CausalConv1dInputs,
  options: CausalConv1dOptions,
): { views: Record<string, View | undefined>; settings: ConvolutionSettings } {
  const { input, weight, bias, state, lengths } = inputs;
  checkArray(kernel, 'input', input, [null, null, null]);
  const [batch, time, channels] = input.shape as [number, number, number];
  checkArray(kernel, 'weight', weight, [channels, null]);
  const taps = weight.shape[1]!;
  if (bias) checkArray(kernel, 'bias', bias, [channels]);
  if (state && taps > 1) checkArray(kernel, 'state', state, [batch, taps - 1, channels]);
  if (lengths) checkArray(kernel, 'lengths', lengths, [batch]);
  return {
    views: {
      input: view(input, channels, time, batch),
      weight: view(weight, taps, channels),
      bias: bias && view(bias, channels),
      state: state && taps > 1 ? view(state, channels, taps - 1, batch) : undefined,
      lengths: lengths && view(lengths, batch),
    },
    settings: { batch, time, channels, taps, silu: options.activation === 'silu' },
  };
}

/**
 * Causal depthwise convolution with state: with x = concat(state, valid input), output_t = act(bias + sum_i weight[:, i] x[t + i]).
 *
 * @returns output [B, T, C], zero at pads, and state [B, K - 1, C], the last rows of x
 * @throws SeqLoomError when the shapes do not fit
 */
export async function causalConv1d(
  gpujs: Gpujs,
  inputs: CausalConv1dInputs,
  options: CausalConv1dOptions = {},
): Promise<{ output: GpujsArray; state: GpujsArray }> {
  const { views, settings } = arrangeConvolution('causalConv1d', inputs, options);
  const { batch, channels, taps } = settings;
  const outputs = await gpujs.run({ kernel: 'causalConv1d', inputs: views, settings, program }, options);
  return {
    output: { shape: inputs.input.shape, data: outputs.output! },
    state: { shape: [batch, taps - 1, channels], data: outputs.state ?? new Float32Array(0) },
  };
}
