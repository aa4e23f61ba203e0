import { array64 } from './array64.ts';
import type { Array64 } from './array64.ts';

/** Settings of `naiveAdamWStep`. */
export interface NaiveAdamWStepSettings {
  readonly learningRate: number;
  readonly step: number;
  readonly beta1?: number;
  readonly beta2?: number;
  readonly epsilon?: number;
  readonly weightDecay?: number;
  readonly gradientScale?: number;
}

/** One AdamW step element by element in double precision, in the order of the paper: moments, bias corrections, decay, change. */
export function naiveAdamWStep(
  inputs: { parameter: Array64; gradient: Array64; firstMoment: Array64; secondMoment: Array64 },
  settings: NaiveAdamWStepSettings,
): { parameter: Array64; firstMoment: Array64; secondMoment: Array64 } {
  const { learningRate, step, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0, gradientScale = 1 } = settings;
  const shape = inputs.parameter.shape;
  const result = { parameter: array64(shape), firstMoment: array64(shape), secondMoment: array64(shape) };
  inputs.parameter.data.forEach((parameter, index) => {
    const gradient = inputs.gradient.data[index]! * gradientScale;
    const first = beta1 * inputs.firstMoment.data[index]! + (1 - beta1) * gradient;
    const second = beta2 * inputs.secondMoment.data[index]! + (1 - beta2) * gradient ** 2;
    const meanOfGradient = first / (1 - beta1 ** step);
    const meanOfSquare = second / (1 - beta2 ** step);
    const decayed = parameter - learningRate * weightDecay * parameter;
    result.parameter.data[index] = decayed - (learningRate * meanOfGradient) / (Math.sqrt(meanOfSquare) + epsilon);
    result.firstMoment.data[index] = first;
    result.secondMoment.data[index] = second;
  });
  return result;
}
