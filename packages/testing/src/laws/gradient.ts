import * as tf from '@tensorflow/tfjs-core';
import { disposeState } from '@seqloom/core';
import type { SequenceMixer, State } from '@seqloom/core';
import { directionalDerivative, gradientsOf, hostLoss, signs } from '../finite-difference.ts';
import type { LossValue } from '../finite-difference.ts';
import { randomStream } from '../oracle/array64.ts';
import { holds } from './law.ts';
import type { Law } from './law.ts';
import { finiteFault, fromTensor, randomArray, toTensor } from './host.ts';
import type { HostArray } from './host.ts';
import { canSplit, feed, randomInput, sizes, withMixer } from './mixer-subject.ts';
import type { MixerSubject } from './mixer-subject.ts';

/** A tensor that can be moved: an input, a state tensor or a parameter. */
interface Movable {
  readonly label: string;
  readonly tensor: tf.Tensor;
  readonly parameter: boolean;
}

/** Outputs of a forward that carry gradients: the output and every state tensor but the position. */
function outputsOf(mixer: SequenceMixer, x: tf.Tensor, state: State | undefined, context: tf.Tensor | undefined): tf.Tensor[] {
  const result = mixer.forward(x, { ...(state ? { state } : {}), ...(context ? { context } : {}) });
  const named = Object.entries(result.state).filter(([name, tensor]) => !/(^|\.)position$/.test(name) && tensor.size > 0);
  return [result.output, ...named.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, tensor]) => tensor)];
}

/** Law 5: gradients of inputs, start state and every parameter equal finite differences in random directions. */
export const gradientLaw: Law<MixerSubject> = {
  number: 5,
  title: 'gradients of inputs, state and all parameters equal central differences, are finite, and are zero only where unused',
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const batch = sizes(subject).batch;
      const length = Math.min(7, sizes(subject).length);
      const input = randomInput(subject, mixer.dim, batch, length, 501);
      // a start state that is not zero, so that its gradient is seen too
      const warm = canSplit(mixer) ? (await feed(mixer, randomInput(subject, mixer.dim, batch, 3, 511), undefined)).state : undefined;
      const x = toTensor(input.x);
      const context = input.context && toTensor(input.context);
      const movables: Movable[] = [
        { label: 'x', tensor: x, parameter: false },
        ...(context ? [{ label: 'context', tensor: context, parameter: false }] : []),
        ...Object.entries(warm ?? {})
          .filter(([name, tensor]) => !/(^|\.)position$/.test(name) && tensor.size > 0)
          .map(([name, tensor]) => ({ label: `state.${name}`, tensor, parameter: false })),
        ...[...mixer.namedParameters()].map(([label, parameter]) => ({ label, tensor: parameter.value, parameter: true })),
      ];
      const weights: HostArray[] = [];
      const gradients = gradientsOf(
        () =>
          outputsOf(mixer, x, warm, context)
            .map((output, i) => {
              weights[i] ??= randomArray(output.shape, 520 + i);
              return tf.sum(tf.mul(output, toTensor(weights[i])));
            })
            .reduce((a, b) => tf.add(a, b)),
        movables.map(({ tensor }) => tensor),
      );
      const faults: (string | null)[] = [];
      try {
        for (const [index, movable] of movables.entries()) {
          const gradient = gradients[index] ? await fromTensor(gradients[index]) : null;
          const loss = moved(mixer, movable, { x, context, warm }, weights);
          faults.push(...(await checkOne(subject, movable, gradient, loss)));
        }
      } finally {
        tf.dispose([x, context ?? [], gradients.filter((gradient) => gradient !== null)]);
        if (warm) disposeState(warm);
      }
      holds(faults);
    }),
};

/** The loss with one tensor replaced. */
function moved(
  mixer: SequenceMixer,
  movable: Movable,
  inputs: { x: tf.Tensor; context: tf.Tensor | undefined; warm: State | undefined },
  weights: readonly HostArray[],
): (values: HostArray) => Promise<LossValue> {
  return async (values) => {
    const swap = (tensor: tf.Tensor): tf.Tensor => (tensor === movable.tensor && !movable.parameter ? replacement : tensor);
    const replacement = toTensor(values);
    const original = movable.parameter ? tf.clone(movable.tensor) : null;
    if (original) (movable.tensor as tf.Variable).assign(replacement);
    try {
      const state =
        inputs.warm && (Object.fromEntries(Object.entries(inputs.warm).map(([name, tensor]) => [name, swap(tensor)])) as unknown as State);
      const outputs = tf.tidy(() => outputsOf(mixer, swap(inputs.x), state, inputs.context && swap(inputs.context)));
      const loss = await hostLoss(
        outputs,
        weights.map(({ data }) => data),
      );
      tf.dispose(outputs);
      return loss;
    } finally {
      if (original) (movable.tensor as tf.Variable).assign(original);
      tf.dispose([replacement, original ?? []]);
    }
  };
}

async function checkOne(
  subject: MixerSubject,
  movable: Movable,
  gradient: HostArray | null,
  loss: (values: HostArray) => Promise<LossValue>,
): Promise<(string | null)[]> {
  const { label } = movable;
  const base = await fromTensor(movable.tensor);
  const size = base.data.length;
  if (gradient) {
    const fault = finiteFault(`gradient of ${label}`, gradient.data);
    if (fault) return [fault];
  }
  const norm = Math.sqrt(gradient?.data.reduce((sum, g) => sum + g * g, 0) ?? 0);
  const unused = subject.unusedParameters?.includes(label) ?? false;
  const faults: (string | null)[] = [];
  if (movable.parameter && norm === 0 && !unused)
    faults.push(`gradient of ${label} is zero everywhere; name it in unusedParameters if that is right`);
  const tolerance = subject.tolerance?.gradient ?? 2e-3;
  const rms = Math.sqrt(base.data.reduce((sum, v) => sum + v * v, 0) / Math.max(1, size));
  // a step in proportion to the tensor's own size keeps the truncation error alike for all of them
  const step = (subject.gradientStep ?? 1e-2) * Math.min(1, Math.max(0.3, rms));
  for (const seed of [1, 2]) {
    const direction = signs(size, randomStream(seed * 7919 + size));
    const at = (h: number): Promise<LossValue> => loss({ shape: base.shape, data: base.data.map((value, i) => value + h * direction[i]!) });
    const { numeric, noise } = await directionalDerivative(at, step);
    const analytic = gradient ? gradient.data.reduce((sum, g, i) => sum + g * direction[i]!, 0) : 0;
    const off = Math.abs(numeric - analytic);
    if (!(off <= tolerance * norm + noise)) {
      faults.push(
        `gradient of ${label} along random direction ${seed} is ${analytic}, finite differences give ${numeric} ` +
          `(apart by ${off.toExponential(2)}, allowed ${(tolerance * norm + noise).toExponential(2)})`,
      );
    }
  }
  return faults;
}
