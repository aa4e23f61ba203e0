import * as tf from '@tensorflow/tfjs-core';
import { disposeState } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { recordKernels } from '../fault.ts';
import { holds } from './law.ts';
import type { Law } from './law.ts';
import { toTensor } from './host.ts';
import { needsPieces, optionsOf, randomInput, withMixer } from './mixer-subject.ts';
import type { MixerSubject } from './mixer-subject.ts';

/** Counted cost of one run; no time is taken. */
export interface CostPoint {
  readonly length: number;
  /** tfjs kernels run, nested ones included */
  readonly kernels: number;
  /** most bytes of tensors alive at once, over what was alive before */
  readonly peakBytes: number;
}

/**
 * Counts kernels and peak memory over a range of lengths.
 *
 * @param lengths numbers of tokens, ascending
 * @param prepare makes inputs of that length and gives the work to count; the work's tensors are disposed
 */
export async function countCost(
  lengths: readonly number[],
  prepare: (length: number) => { run: () => tf.TensorContainer; dispose: () => void },
): Promise<CostPoint[]> {
  const points: CostPoint[] = [];
  for (const length of lengths) {
    const { run, dispose } = prepare(length);
    const base = tf.memory().numBytes;
    let kernels = 0;
    const { peakBytes } = await tf.profile(() => {
      kernels = recordKernels(() => tf.dispose(run())).length;
      return [];
    });
    points.push({ length, kernels, peakBytes: Math.max(0, peakBytes - base) });
    dispose();
  }
  return points;
}

/** The exponent p of the growth `cost ~ length^p` between the first and the last point. */
export function growthExponent(points: readonly CostPoint[], key: 'kernels' | 'peakBytes'): number {
  const [first, last] = [points[0]!, points.at(-1)!];
  return Math.log(Math.max(1, last[key]) / Math.max(1, first[key])) / Math.log(last.length / first.length);
}

/** Law 12: the state grows as the card's kind of decoding says, and one token costs no more kernels late than early. */
export const costLaw: Law<MixerSubject> = {
  number: 12,
  title: 'state and one-token decoding grow as the card says, counted',
  applies: (subject) => (subject.card.decode === 'none' ? 'the card has no decoding' : needsPieces(subject)),
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const bytes = [1000, 2000, 4000].map((length) => mixer.stateBytes(1, length));
      const growth = [bytes[1]! - bytes[0]!, bytes[2]! - bytes[1]!];
      const faults: (string | null)[] = [];
      const { decode } = subject.card;
      if (decode === 'full-cache' ? growth[0]! <= 0 : growth.some((more) => more !== 0)) {
        faults.push(`the card says ${decode}, but the state has ${bytes.join(', ')} bytes after 1000, 2000, 4000 tokens`);
      }
      const input = randomInput(subject, mixer.dim, 1, 1, 1001);
      const token = toTensor(input.x);
      const options = optionsOf(input);
      const kernels: number[] = [];
      let state: State | undefined;
      for (let t = 0; t < 24; t++) {
        const before: State | undefined = state;
        const names = recordKernels(() => {
          const step = mixer.forward(token, before ? { ...options, state: before } : options);
          step.output.dispose();
          state = step.state;
        });
        kernels.push(names.length);
        if (before) disposeState(before);
      }
      disposeState(state!);
      tf.dispose([token, options as tf.TensorContainer]);
      // the first call makes the initial state and may fill tables; a ring or a block may turn over now and then
      const [early, late] = [Math.max(...kernels.slice(1, 8)), Math.max(...kernels.slice(17))];
      if (late > 1.5 * early) faults.push(`decoding runs ${late} kernels at token 24, ${early} at token 8`);
      holds(faults);
    }),
};
