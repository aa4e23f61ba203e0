import * as tf from '@tensorflow/tfjs-core';
import { disposeState } from '@seqloom/core';
import type { SequenceMixer, State } from '@seqloom/core';
import { gradientFaults } from './gradient-check.ts';
import type { Movable } from './gradient-check.ts';
import { toTensor } from './host.ts';
import { holds } from './law.ts';
import type { Law } from './law.ts';
import { canSplit, feed, randomInput, sizes, withMixer } from './mixer-subject.ts';
import type { MixerSubject } from './mixer-subject.ts';

/** State tensors that carry gradients: all but the positions, and but empty ones. */
function carriers(state: State | undefined): [string, tf.Tensor][] {
  const named = Object.entries(state ?? {}).filter(([name, tensor]) => !/(^|\.)position$/.test(name) && tensor.size > 0);
  return named.toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** The output and the state tensors that carry gradients. */
function outputsOf(mixer: SequenceMixer, x: tf.Tensor, state: State | undefined, context: tf.Tensor | undefined): tf.Tensor[] {
  const result = mixer.forward(x, { ...(state ? { state } : {}), ...(context ? { context } : {}) });
  return [result.output, ...carriers(result.state).map(([, tensor]) => tensor)];
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
        ...carriers(warm).map(([name, tensor]) => ({ label: `state.${name}`, tensor, parameter: false })),
        ...[...mixer.namedParameters()].map(([label, parameter]) => ({ label, tensor: parameter.value, parameter: true })),
      ];
      const forward = (swap: (tensor: tf.Tensor) => tf.Tensor): tf.Tensor[] => {
        const state = warm && (Object.fromEntries(Object.entries(warm).map(([name, tensor]) => [name, swap(tensor)])) as unknown as State);
        return outputsOf(mixer, swap(x), state, context && swap(context));
      };
      const { gradientStep: step, unusedParameters: unused } = subject;
      const faults = await gradientFaults(forward, movables, { tolerance: subject.tolerance?.gradient, step, unused });
      tf.dispose([x, context ?? []]);
      if (warm) disposeState(warm);
      holds(faults);
    }),
};
