import { checkArray, view } from './array.ts';
import type { GpujsArray, View } from './array.ts';
import { wholeNumbers } from './check.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program } from './program.ts';
import { sortPlaces } from './row-order.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `expertMatMul`. */
export interface ExpertMatMulInputs {
  /** [N, D] */
  readonly input: GpujsArray;
  /** the expert of each of the N rows, below E, or -1 for none */
  readonly experts: Int32Array;
  /** [E, D, F], one matrix per expert */
  readonly weight: GpujsArray;
}

interface Settings {
  readonly rows: number;
  readonly count: number;
  readonly inner: number;
  readonly outer: number;
}

/** A row times the matrix of its expert, or times that matrix transposed. */
const product = variants((transposed: boolean) =>
  kernelSource(
    'expertMatMul',
    { rows: 'Input', experts: 'Input', weight: 'Input', width: 'Integer' },
    `const expert = experts[0][0][this.thread.y];
    let sum = 0.0;
    if (expert >= 0) {
      for (let i = 0; i < width; i++) {
        sum += rows[0][this.thread.y][i] * ${transposed ? 'weight[expert][this.thread.x][i]' : 'weight[expert][i][this.thread.x]'};
      }
    }
    return sum;`,
  ),
);

const ofWeight = kernelSource(
  'expertMatMul.ofWeight',
  { input: 'Input', cotangent: 'Input', order: 'Input', starts: 'Input' },
  `const first = starts[0][0][this.thread.z];
  const count = starts[0][0][this.thread.z + 1] - first;
  let sum = 0.0;
  for (let i = 0; i < count; i++) {
    const row = order[0][0][first + i];
    sum += input[0][row][this.thread.y] * cotangent[0][row][this.thread.x];
  }
  return sum;`,
);

const forward: Program<Settings> = function* ({ input, experts, weight }, { rows, inner, outer }) {
  return { output: yield* step(product(false), [outer, rows, 1], [input, experts, weight, inner]) };
};

const backward: Program<Settings> = function* (inputs, { rows, count, inner, outer }) {
  const { input, experts, weight, cotangent, order, starts } = inputs;
  return {
    input: yield* step(product(true), [inner, rows, 1], [cotangent, experts, weight, outer]),
    weight: yield* step(ofWeight, [outer, inner, count], [input, cotangent, order, starts]),
  };
};

function arrange(kernel: string, { input, experts, weight }: ExpertMatMulInputs): { views: Record<string, View>; settings: Settings } {
  checkArray(kernel, 'input', input, [null, null]);
  const [rows, inner] = input.shape as [number, number];
  checkArray(kernel, 'weight', weight, [null, inner, null]);
  const [count, , outer] = weight.shape as [number, number, number];
  const numbers = wholeNumbers(kernel, 'experts', experts, { count: rows, least: -1, below: count });
  return {
    views: { input: view(input, inner, rows), experts: view(numbers, rows), weight: view(weight, outer, inner, count) },
    settings: { rows, count, inner, outer },
  };
}

/**
 * The product of each row with the matrix of its expert, output[n] = input[n] weight[experts[n]]; zeros where the expert is -1.
 *
 * @returns output [N, F]
 * @throws SeqLoomError when the shapes do not fit or an expert is out of range
 */
export async function expertMatMul(gpujs: Gpujs, inputs: ExpertMatMulInputs, placement: Placement = {}): Promise<{ output: GpujsArray }> {
  const { views, settings } = arrange('expertMatMul', inputs);
  const { output } = await gpujs.run({ kernel: 'expertMatMul', inputs: views, settings, program: forward }, placement);
  return { output: { shape: [settings.rows, settings.outer], data: output! } };
}

/**
 * Gradients of `expertMatMul`. Rows are sorted by expert on the host, so that each is read for its own expert alone.
 *
 * @param inputs also the gradient of the output [N, F] as `cotangent`
 * @returns input [N, D], zeros for rows without an expert, and weight [E, D, F], zeros for experts without rows
 * @throws SeqLoomError when the shapes do not fit or an expert is out of range
 */
export async function expertMatMulGradient(
  gpujs: Gpujs,
  inputs: ExpertMatMulInputs & { readonly cotangent: GpujsArray },
  placement: Placement = {},
): Promise<{ input: GpujsArray; weight: GpujsArray }> {
  const { views, settings } = arrange('expertMatMulGradient', inputs);
  const { rows, count, outer } = settings;
  checkArray('expertMatMulGradient', 'cotangent', inputs.cotangent, [rows, outer]);
  const all = { ...views, cotangent: view(inputs.cotangent, outer, rows), ...sortPlaces(inputs.experts, count) };
  const { input, weight } = await gpujs.run({ kernel: 'expertMatMulGradient', inputs: all, settings, program: backward }, placement);
  return { input: { shape: inputs.input.shape, data: input! }, weight: { shape: inputs.weight.shape, data: weight! } };
}
