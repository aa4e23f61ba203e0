import * as tf from '@tensorflow/tfjs-core';
import { randomStream } from '../oracle/array64.ts';
import { isSampling } from '../backends.ts';
import { closenessFault } from '../closeness.ts';
import { holds } from './law.ts';
import type { Law } from './law.ts';
import { joinTokens, tokensOf } from './host.ts';
import { feedAll, needsPieces, randomInput, sizes, stateFaults, withMixer } from './mixer-subject.ts';
import type { MixerSubject } from './mixer-subject.ts';

/** Partitions of `length` tokens: single tokens, pieces shorter than a convolution of 4, uneven and random ones. */
export function partitions(length: number): number[][] {
  const fixed = [
    Array.from({ length }, () => 1),
    [1, length - 1],
    [length - 1, 1],
    [3, 1, 2, length - 6],
    [Math.ceil(length / 2), Math.floor(length / 2)],
  ];
  const random = [1, 2].map((seed) => {
    const next = randomStream(seed);
    const pieces: number[] = [];
    let left = length;
    while (left > 0) {
      const piece = Math.min(left, 1 + Math.floor(next() * (length / 2)));
      pieces.push(piece);
      left -= piece;
    }
    return pieces;
  });
  return [...fixed, ...random].map((pieces) => pieces.filter((piece) => piece > 0));
}

/** Law 1: pieces fed with the returned states give what one call on the whole gives; decoding token by token is one such partition. */
export const splitLaw: Law<MixerSubject> = {
  number: 1,
  title: 'pieces of any size, single tokens too, give the outputs and the final state of one call',
  applies: needsPieces,
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { batch, length } = sizes(subject);
      const rms = subject.tolerance?.forward ?? 1e-5;
      const input = randomInput(subject, mixer.dim, batch, length, 101);
      const whole = await feedAll(mixer, [input]);
      const faults: (string | null)[] = [];
      // a GPU that the CPU plays takes 50 times as long, so there every third partition will do
      const tried = partitions(length).filter((_, i) => tf.getBackend() !== 'webgpu' || i % (isSampling() ? 6 : 3) === 0);
      for (const partition of tried) {
        let from = 0;
        const pieces = partition.map((size) => ({ ...input, x: tokensOf(input.x, from, (from += size)) }));
        const result = await feedAll(mixer, pieces);
        const label = `pieces of ${partition.join('+')} tokens`;
        faults.push(closenessFault(`${label}: output`, joinTokens(result.outputs), whole.output, { rms }));
        faults.push(...stateFaults(label, result.state, whole.state, rms));
      }
      holds(faults);
    }),
};
