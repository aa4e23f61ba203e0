import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor } from './check-tensor.ts';
import { columnSum } from '../numerics/column-sum.ts';
import { defineKernel } from './define.ts';

/** Tensors that `rmsNorm` reads. */
export type RmsNormInputs = {
  /** what is normalised over its last axis, float32 [..., D] */
  readonly input: tf.Tensor;
  /** factor per channel, [D] */
  readonly weight?: tf.Tensor | undefined;
  /** pre-activation of the gate, the shape of `input` */
  readonly gate?: tf.Tensor | undefined;
};

/** Settings of the `RmsNorm` kernel, all present. */
export type RmsNormAttributes = {
  /** added to the mean square under the root */
  readonly epsilon: number;
  /** act in the formulas of `rmsNorm` */
  readonly gateActivation: 'silu' | 'sigmoid';
  /** whether the gate multiplies the normalised value (true) or the input (false) */
  readonly normBeforeGate: boolean;
  /** number of equal slices of D that are normalised apart */
  readonly groups: number;
};

const MECHANISM = 'rms-norm';

// the scale 1 / rms per group, broadcastable against [rows, groups, D / groups]
function inverseRms(grouped: tf.Tensor3D, epsilon: number): tf.Tensor {
  return tf.rsqrt(tf.add(tf.mean(tf.mul(grouped, grouped), 2, true), epsilon));
}

function activate(gate: tf.Tensor, activation: 'silu' | 'sigmoid'): { value: tf.Tensor; slope: () => tf.Tensor } {
  const sigmoid = tf.sigmoid(gate);
  if (activation === 'sigmoid') return { value: sigmoid, slope: () => tf.mul(sigmoid, tf.sub(1, sigmoid)) };
  const value = tf.mul(gate, sigmoid);
  // silu' = s + silu * (1 - s)
  return { value, slope: () => tf.add(sigmoid, tf.mul(value, tf.sub(1, sigmoid))) };
}

/** The kernel contract behind `rmsNorm`. */
export const rmsNormKernel = defineKernel<RmsNormInputs, RmsNormAttributes, 'output'>({
  name: 'RmsNorm',
  outputs: ['output'],
  composed({ input, weight, gate }, { epsilon, gateActivation, normBeforeGate, groups }) {
    const shape = input.shape;
    const width = shape.at(-1)! / groups;
    const gateValue = gate && activate(gate, gateActivation).value;
    const source = gateValue && !normBeforeGate ? tf.mul(input, gateValue) : input;
    const grouped = tf.reshape(source, [-1, groups, width]) as tf.Tensor3D;
    let output = tf.reshape(tf.mul(grouped, inverseRms(grouped, epsilon)), shape);
    if (weight) output = tf.mul(output, weight);
    if (gateValue && normBeforeGate) output = tf.mul(output, gateValue);
    return { output };
  },
  gradient: {
    inputs: ['input', 'weight', 'gate'],
    needs: [],
    composed({ input, weight, gate }, _saved, { output: upstream }, { epsilon, gateActivation, normBeforeGate, groups }) {
      const shape = input.shape;
      const width = shape.at(-1)! / groups;
      const activation = gate && activate(gate, gateActivation);
      const after = activation && normBeforeGate ? activation : undefined;
      const before = activation && !normBeforeGate ? activation : undefined;
      const grouped = tf.reshape(before ? tf.mul(input, before.value) : input, [-1, groups, width]) as tf.Tensor3D;
      const scale = inverseRms(grouped, epsilon);
      const normalised = tf.mul(grouped, scale); // [rows, groups, D / groups]
      const flat = tf.reshape(normalised, shape);
      const dScaled = after ? tf.mul(upstream, after.value) : upstream; // gradient of normalised * weight
      const dNormalised = tf.reshape(weight ? tf.mul(dScaled, weight) : dScaled, [-1, groups, width]);
      // d source = scale * (dn - n * mean(dn * n))
      const along = tf.mean(tf.mul(dNormalised, normalised), 2, true);
      const dSource = tf.reshape(tf.mul(tf.sub(dNormalised, tf.mul(normalised, along)), scale), shape);
      return {
        input: before ? tf.mul(dSource, before.value) : dSource,
        ...(weight && { weight: columnSum(tf.mul(dScaled, flat)) }),
        ...(before && { gate: tf.mul(tf.mul(dSource, input), before.slope()) }),
        ...(after && { gate: tf.mul(tf.mul(upstream, weight ? tf.mul(flat, weight) : flat), after.slope()) }),
      };
    },
  },
});

/**
 * Root-mean-square normalisation over the last axis, optionally gated (Zhang and Sennrich 2019; gated as in Mamba-2).
 *
 * With `rms(x) = x / sqrt(mean(x^2) + epsilon)` and the mean taken within each of `groups` slices of D:
 * `rms(input) * weight`, with a gate `rms(input) * weight * act(gate)`, or `rms(input * act(gate)) * weight` if not `normBeforeGate`.
 *
 * @param inputs `input` [..., D], and optionally `weight` [D] and `gate` [..., D]
 * @param options `epsilon` (1e-5), `gateActivation` ('silu'), `normBeforeGate` (true), `groups` (1)
 * @returns a new tensor of the shape of `input`
 * @throws SeqLoomError when a shape, dtype or setting does not fit
 */
export function rmsNorm(inputs: RmsNormInputs, options: Partial<RmsNormAttributes> = {}): tf.Tensor {
  const { epsilon = 1e-5, gateActivation = 'silu', normBeforeGate = true, groups = 1 } = options;
  const { input, weight, gate } = inputs;
  const wantedShape = input instanceof tf.Tensor && input.rank > 0 ? input.shape : ['channels'];
  checkTensor(MECHANISM, 'input', input, wantedShape);
  const width = input.shape.at(-1)!;
  if (weight) checkTensor(MECHANISM, 'weight', weight, [width]);
  if (gate) checkTensor(MECHANISM, 'gate', gate, input.shape);
  checkSetting(
    MECHANISM,
    'epsilon',
    epsilon >= 0 && Number.isFinite(epsilon),
    'a finite number of at least 0',
    epsilon,
    'Use 1e-5 or 1e-6.',
  );
  checkSetting(
    MECHANISM,
    'groups',
    Number.isInteger(groups) && groups > 0 && width % groups === 0,
    `a whole number that divides the width ${width}`,
    groups,
    'Choose as many groups as heads.',
  );
  checkSetting(
    MECHANISM,
    'gateActivation',
    ['silu', 'sigmoid'].includes(gateActivation),
    "'silu' or 'sigmoid'",
    gateActivation,
    'Name one.',
  );
  return rmsNormKernel.run({ input, weight, gate }, { epsilon, gateActivation, normBeforeGate, groups }).output;
}
