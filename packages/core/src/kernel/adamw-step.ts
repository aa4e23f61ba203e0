import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor } from './check-tensor.ts';
import { defineKernel } from './define.ts';

/** Tensors that `adamWStep` reads, all float32 and of one shape. */
export type AdamWStepInputs = {
  readonly parameter: tf.Tensor;
  readonly gradient: tf.Tensor;
  /** running mean of the gradient; zeros before the first step */
  readonly firstMoment: tf.Tensor;
  /** running mean of its square; zeros before the first step */
  readonly secondMoment: tf.Tensor;
};

/** Settings of the `AdamWStep` kernel, all present. */
export type AdamWStepAttributes = {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** share of the parameter taken away per unit of learning rate */
  readonly weightDecay: number;
  /** number of this step, from 1 */
  readonly step: number;
  /** factor on the gradient, e.g. from clipping by global norm */
  readonly gradientScale: number;
};

/** Settings of `adamWStep`; only the learning rate and the step have no default. */
export type AdamWStepOptions = Partial<AdamWStepAttributes> & Pick<AdamWStepAttributes, 'learningRate' | 'step'>;

const MECHANISM = 'adamw-step';

/** The kernel contract behind `adamWStep`; it has no gradient. */
export const adamWStepKernel = defineKernel<AdamWStepInputs, AdamWStepAttributes, 'parameter' | 'firstMoment' | 'secondMoment'>({
  name: 'AdamWStep',
  outputs: ['parameter', 'firstMoment', 'secondMoment'],
  composed(inputs, { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale }) {
    const gradient = gradientScale === 1 ? inputs.gradient : tf.mul(inputs.gradient, gradientScale);
    const firstMoment = tf.add(inputs.firstMoment, tf.mul(tf.sub(gradient, inputs.firstMoment), 1 - beta1));
    const secondMoment = tf.add(inputs.secondMoment, tf.mul(tf.sub(tf.mul(gradient, gradient), inputs.secondMoment), 1 - beta2));
    // both bias corrections folded into two numbers: (m / c1) / (sqrt(v / c2) + e) = sqrt(c2) / c1 * m / (sqrt(v) + e sqrt(c2))
    const rootOfSecond = Math.sqrt(1 - beta2 ** step);
    const rate = (learningRate * rootOfSecond) / (1 - beta1 ** step);
    const change = tf.mul(tf.div(firstMoment, tf.add(tf.sqrt(secondMoment), epsilon * rootOfSecond)), rate);
    const kept = weightDecay === 0 ? inputs.parameter : tf.mul(inputs.parameter, 1 - learningRate * weightDecay);
    return { parameter: tf.sub(kept, change), firstMoment, secondMoment };
  },
});

/**
 * One step of AdamW (Loshchilov and Hutter 2019): Adam with decoupled weight decay.
 *
 * With g = gradientScale * gradient: `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`,
 * `parameter = parameter (1 - learningRate weightDecay) - learningRate (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon)`.
 *
 * @param inputs parameter, gradient and both moments, of one shape; none is changed
 * @param options learning rate, step from 1, and optionally beta1 (0.9), beta2 (0.999), epsilon (1e-8), weightDecay (0), gradientScale (1)
 * @returns the new parameter and moments, owned by the caller
 * @throws SeqLoomError when a shape, dtype or setting does not fit
 */
export function adamWStep(
  inputs: AdamWStepInputs,
  options: AdamWStepOptions,
): { parameter: tf.Tensor; firstMoment: tf.Tensor; secondMoment: tf.Tensor } {
  const { learningRate, step, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0, gradientScale = 1 } = options;
  const { parameter, gradient, firstMoment, secondMoment } = inputs;
  checkTensor(MECHANISM, 'parameter', parameter, parameter instanceof tf.Tensor ? parameter.shape : []);
  for (const [name, tensor] of Object.entries({ gradient, firstMoment, secondMoment }))
    checkTensor(MECHANISM, name, tensor, parameter.shape);
  for (const [name, value] of Object.entries({ learningRate, epsilon, weightDecay })) {
    checkSetting(MECHANISM, name, Number.isFinite(value) && value >= 0, 'a finite number of at least 0', value, `Correct ${name}.`);
  }
  for (const [name, value] of Object.entries({ beta1, beta2 })) {
    checkSetting(MECHANISM, name, value >= 0 && value < 1, 'at least 0 and below 1', value, 'Usual values are 0.9 and 0.95 to 0.999.');
  }
  checkSetting(MECHANISM, 'step', Number.isInteger(step) && step >= 1, 'a whole number from 1', step, 'Count steps from 1.');
  checkSetting(MECHANISM, 'gradientScale', Number.isFinite(gradientScale), 'a finite number', gradientScale, 'Use 1 for none.');
  return adamWStepKernel.run(
    { parameter, gradient, firstMoment, secondMoment },
    { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale },
  );
}
