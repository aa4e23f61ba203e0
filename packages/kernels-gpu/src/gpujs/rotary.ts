import { fail } from '@seqloom/core/error';
import { checkArray, view } from './array.ts';
import type { GpujsArray } from './array.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `rotary`. */
export interface RotaryInputs {
  /** [B, T, H, D] */
  readonly input: GpujsArray;
  /** [1 or B, T, R/2], the cosines of the angles */
  readonly cos: GpujsArray;
  /** [1 or B, T, R/2] */
  readonly sin: GpujsArray;
}

/** Options of `rotary`. */
export interface RotaryOptions extends Placement {
  /** pairs (2r, 2r + 1) instead of (r, r + R/2) */
  readonly interleaved?: boolean;
}

interface Settings {
  readonly batch: number;
  readonly time: number;
  readonly heads: number;
  readonly width: number;
  readonly pairs: number;
  readonly angleBatch: number;
  readonly interleaved: boolean;
  /** 1 forwards, -1 for the gradient */
  readonly sign: number;
}

const rotate = variants((interleaved: boolean) =>
  kernelSource(
    'rotary',
    { input: 'Input', cos: 'Input', sin: 'Input', width: 'Integer', pairs: 'Integer', oneBatch: 'Integer', sign: 'Float' },
    `const x = this.thread.x;
    const t = this.thread.y;
    const b = this.thread.z;
    const head = Math.floor((x + 0.5) / width);
    const channel = x - head * width;
    let angleRow = b;
    if (oneBatch === 1) { angleRow = 0; }
    let value = input[b][t][x];
    if (channel < 2 * pairs) {
      ${
        interleaved
          ? `const pair = Math.floor((channel + 0.5) / 2);
      const isFirst = channel - 2 * pair < 0.5;
      let other = x - 1;
      if (isFirst) { other = x + 1; }`
          : `const isFirst = channel < pairs;
      let pair = channel - pairs;
      let other = x - pairs;
      if (isFirst) { pair = channel; other = x + pairs; }`
      }
      let sine = sign * sin[angleRow][t][pair];
      if (isFirst) { sine = -sine; }
      value = value * cos[angleRow][t][pair] + input[b][t][other] * sine;
    }
    return value;`,
  ),
);

const program: Program<Settings> = function* ({ input, cos, sin }, { batch, time, heads, width, pairs, angleBatch, interleaved, sign }) {
  const values = [input, cos, sin, width, pairs, angleBatch === 1 ? 1 : 0, sign];
  return { output: yield* step(rotate(interleaved), [heads * width, time, batch], values) };
};

async function turn(gpujs: Gpujs, inputs: RotaryInputs, options: RotaryOptions, sign: number): Promise<GpujsArray> {
  const { input, cos, sin } = inputs;
  checkArray('rotary', 'input', input, [null, null, null, null]);
  const [batch, time, heads, width] = input.shape as [number, number, number, number];
  checkArray('rotary', 'cos', cos, [cos.shape[0] === 1 ? 1 : batch, time, null]);
  checkArray('rotary', 'sin', sin, cos.shape);
  const [angleBatch, , pairs] = cos.shape as [number, number, number];
  if (2 * pairs > width) {
    const remedy = 'Give the angles of the channels that are rotated, one per pair.';
    fail({ mechanism: 'rotary', argument: 'cos', wanted: `at most ${width / 2} wide`, given: `${pairs}`, remedy });
  }
  const views = {
    input: view(input, heads * width, time, batch),
    cos: view(cos, pairs, time, angleBatch),
    sin: view(sin, pairs, time, angleBatch),
  };
  const settings = { batch, time, heads, width, pairs, angleBatch, interleaved: options.interleaved ?? false, sign };
  const { output } = await gpujs.run({ kernel: 'rotary', inputs: views, settings, program }, options);
  return { shape: input.shape, data: output! };
}

/**
 * Rotary position: (x, y) -> (x cos - y sin, y cos + x sin) for each pair of channels of every head; channels beyond R stay.
 *
 * @returns output [B, T, H, D]
 * @throws SeqLoomError when the shapes do not fit
 */
export async function rotary(gpujs: Gpujs, inputs: RotaryInputs, options: RotaryOptions = {}): Promise<{ output: GpujsArray }> {
  return { output: await turn(gpujs, inputs, options, 1) };
}

/**
 * Gradient of `rotary` by its input: the rotation the other way.
 *
 * @param inputs the angles, and as `cotangent` the gradient of the output
 */
export async function rotaryGradient(
  gpujs: Gpujs,
  inputs: Omit<RotaryInputs, 'input'> & { readonly cotangent: GpujsArray },
  options: RotaryOptions = {},
): Promise<{ input: GpujsArray }> {
  return { input: await turn(gpujs, { ...inputs, input: inputs.cotangent }, options, -1) };
}
