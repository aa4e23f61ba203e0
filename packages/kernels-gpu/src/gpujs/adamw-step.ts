import { fail } from '@seqloom/core/error';
import { checkArray, sizeOf, view } from './array.ts';
import type { GpujsArray } from './array.ts';
import { kernelSource, step, variants } from './program.ts';
import type { Program } from './program.ts';
import type { Gpujs, Placement } from './run.ts';

/** Inputs of `adamWStep`, all of one shape. */
export interface AdamWStepInputs {
  readonly parameter: GpujsArray;
  readonly gradient: GpujsArray;
  /** running mean of the gradient; zeros before the first step */
  readonly firstMoment: GpujsArray;
  /** running mean of its square; zeros before the first step */
  readonly secondMoment: GpujsArray;
}

/** Options of `adamWStep`; only the learning rate and the step have no default. */
export interface AdamWStepOptions extends Placement {
  readonly learningRate: number;
  /** number of this step, from 1 */
  readonly step: number;
  /** default 0.9 */
  readonly beta1?: number;
  /** default 0.999 */
  readonly beta2?: number;
  /** default 1e-8 */
  readonly epsilon?: number;
  /** share of the parameter taken away per unit of learning rate, default 0 */
  readonly weightDecay?: number;
  /** factor on the gradient, e.g. from clipping by global norm; default 1 */
  readonly gradientScale?: number;
}

/** Places in the array of numbers, which is an input so that one plan serves every step. */
const [gradientScale, firstShare, secondShare, rate, root, kept] = [0, 1, 2, 3, 4, 5].map((place) => `numbers[0][0][${place}]`);

const moment = variants((power: 1 | 2) =>
  kernelSource(
    'adamWStep.moment',
    { gradient: 'Input', moment: 'Input', numbers: 'Input' },
    `const scaled = gradient[0][this.thread.y][this.thread.x] * ${gradientScale};
    const before = moment[0][this.thread.y][this.thread.x];
    return before + (${power === 1 ? 'scaled' : 'scaled * scaled'} - before) * ${power === 1 ? firstShare : secondShare};`,
  ),
);

const move = kernelSource(
  'adamWStep.move',
  { parameter: 'Input', first: 'Input', second: 'Input', numbers: 'Input' },
  `const change = first[0][this.thread.y][this.thread.x] / (Math.sqrt(second[0][this.thread.y][this.thread.x]) + ${root});
  return parameter[0][this.thread.y][this.thread.x] * ${kept} - change * ${rate};`,
);

const program: Program<{ width: number; rows: number }> = function* (inputs, { width, rows }) {
  const { parameter, gradient, numbers } = inputs;
  const extents = [width, rows, 1] as const;
  const firstMoment = yield* step(moment(1), extents, [gradient, inputs.firstMoment, numbers]);
  const secondMoment = yield* step(moment(2), extents, [gradient, inputs.secondMoment, numbers]);
  return { parameter: yield* step(move, extents, [parameter, firstMoment, secondMoment, numbers]), firstMoment, secondMoment };
};

/** Checks the settings and folds both bias corrections into two numbers: m / c1 / (sqrt(v / c2) + e) = sqrt(c2) / c1 m / (sqrt(v) + e sqrt(c2)). */
function numbersOf(options: AdamWStepOptions): Float32Array {
  const { learningRate, step: count, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0, gradientScale: scale = 1 } = options;
  const demand = (argument: string, right: boolean, wanted: string, given: number, remedy: string): void => {
    if (!right) fail({ mechanism: 'adamWStep', argument, wanted, given: String(given), remedy });
  };
  for (const [name, value] of Object.entries({ learningRate, epsilon, weightDecay }))
    demand(name, Number.isFinite(value) && value >= 0, 'a finite number of at least 0', value, `Correct ${name}.`);
  for (const [name, value] of Object.entries({ beta1, beta2 }))
    demand(name, value >= 0 && value < 1, 'at least 0 and below 1', value, 'Usual values are 0.9 and 0.95 to 0.999.');
  demand('step', Number.isInteger(count) && count >= 1, 'a whole number from 1', count, 'Count steps from 1.');
  demand('gradientScale', Number.isFinite(scale), 'a finite number', scale, 'Use 1 for none.');
  const rootOfSecond = Math.sqrt(1 - beta2 ** count);
  const wholeRate = (learningRate * rootOfSecond) / (1 - beta1 ** count);
  return Float32Array.of(scale, 1 - beta1, 1 - beta2, wholeRate, epsilon * rootOfSecond, 1 - learningRate * weightDecay);
}

/**
 * One step of AdamW, Adam with decoupled weight decay. With g = gradientScale gradient: m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
 * parameter = parameter (1 - learningRate weightDecay) - learningRate (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon).
 *
 * Three runs, as gpu.js has one output per kernel; the settings are an array, so that all steps share one plan.
 *
 * @returns the new parameter and moments
 * @throws SeqLoomError when a shape or setting does not fit
 */
export async function adamWStep(
  gpujs: Gpujs,
  inputs: AdamWStepInputs,
  options: AdamWStepOptions,
): Promise<{ parameter: GpujsArray; firstMoment: GpujsArray; secondMoment: GpujsArray }> {
  const { parameter, gradient, firstMoment, secondMoment } = inputs;
  const { shape } = parameter;
  for (const [name, array] of Object.entries({ parameter, gradient, firstMoment, secondMoment }))
    checkArray('adamWStep', name, array, shape);
  const data = numbersOf(options);
  const width = shape.at(-1) ?? 1;
  const rows = sizeOf(shape) / width;
  const views = {
    parameter: view(parameter, width, rows),
    gradient: view(gradient, width, rows),
    firstMoment: view(firstMoment, width, rows),
    secondMoment: view(secondMoment, width, rows),
    numbers: view({ shape: [data.length], data }, data.length),
  };
  const made = await gpujs.run({ kernel: 'adamWStep', inputs: views, settings: { width, rows }, program }, options);
  return {
    parameter: { shape, data: made.parameter! },
    firstMoment: { shape, data: made.firstMoment! },
    secondMoment: { shape, data: made.secondMoment! },
  };
}
