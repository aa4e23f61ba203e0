import * as tf from '@tensorflow/tfjs-core';
import { disposeState, SeqLoomError } from '@seqloom/core';
import type { SequenceMixer, State } from '@seqloom/core';
import { faultSweep } from '../fault.ts';
import { gradientsOf } from '../finite-difference.ts';
import { countTensors, leakFault } from '../leak.ts';
import { holds } from './law.ts';
import type { Law } from './law.ts';
import { bitFault, fromTensor, toTensor } from './host.ts';
import { canSplit, feed, optionsOf, randomInput, readState, sizes, withMixer } from './mixer-subject.ts';
import type { MixerSubject } from './mixer-subject.ts';

/** Gradients of the summed output by input and parameters. */
function backward(mixer: SequenceMixer, x: tf.Tensor, options: object): tf.Tensor[] {
  const by = [x, ...mixer.parameters().map(({ value }) => value)];
  return gradientsOf(() => tf.sum(tf.square(mixer.forward(x, options).output)), by).filter((gradient) => gradient !== null);
}

/** Law 8: forward, backward, decoding and disposal leave as many tensors as there were, also when a call is refused. */
export const leakLaw: Law<MixerSubject> = {
  number: 8,
  title: 'forward, backward, decoding, refused calls and dispose leave no tensor behind',
  check: async (subject) => {
    const { batch, length } = sizes(subject);
    const start = countTensors();
    const faults: (string | null)[] = [];
    await withMixer(subject, async (mixer) => {
      const input = randomInput(subject, mixer.dim, batch, length, 601);
      const x = toTensor(input.x);
      const options = optionsOf(input);
      const token = toTensor(randomInput(subject, mixer.dim, batch, 1, 602).x);
      const forward = (): void => {
        const before = tf.memory().numTensors;
        const { output, state } = mixer.forward(x, options);
        const made = tf.memory().numTensors - before;
        const owned = new Set([output, ...Object.values(state)]).size;
        if (made !== owned) faults.push(`forward made ${made} tensors and returned ${owned}`);
        output.dispose();
        disposeState(state);
      };
      const decode = (): void => {
        let state: State | undefined;
        for (let t = 0; t < 4; t++) {
          const step = mixer.forward(token, state ? { ...options, state } : options);
          step.output.dispose();
          if (state) disposeState(state);
          state = step.state;
        }
        disposeState(state!);
      };
      const refused = (): void => {
        const wrong = tf.zeros([batch, mixer.dim + 1]);
        try {
          mixer.forward(wrong, options);
          faults.push('an input of rank 2 was taken');
        } catch (error) {
          if (!(error instanceof SeqLoomError)) throw error;
        }
        wrong.dispose();
      };
      // what the first call makes and keeps (tables, caches) counts as the mixer's, and must go with it
      forward();
      const works: [string, () => void][] = [
        ['forward', forward],
        ['backward', () => tf.dispose(backward(mixer, x, options))],
        ...(canSplit(mixer) ? [['decoding four tokens', decode] as [string, () => void]] : []),
        ['a refused call', refused],
      ];
      for (const [what, work] of works) {
        if (what === 'backward') work();
        const before = countTensors();
        work();
        faults.push(leakFault(before, what));
      }
      tf.dispose([x, token, options as tf.TensorContainer]);
    });
    faults.push(leakFault(start, 'the whole life of a mixer, dispose included,'));
    holds(faults);
  },
};

/** Law 8: an error in the middle of a forward or backward leaves no tensor behind, and inputs and state as they were. */
export const faultLaw: Law<MixerSubject> = {
  number: 8,
  sampled: false,
  title: 'an error in the middle of forward or backward leaks nothing and changes neither input nor state',
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { batch } = sizes(subject);
      const input = randomInput(subject, mixer.dim, batch, 6, 611);
      const first = canSplit(mixer) ? (await feed(mixer, randomInput(subject, mixer.dim, batch, 2, 612))).state : undefined;
      const x = toTensor(input.x);
      const options = { ...optionsOf(input), ...(first ? { state: first } : {}) };
      const before = first ? await readState(first) : {};
      const run = async (): Promise<Awaited<ReturnType<typeof fromTensor>>> => {
        const { output, state } = mixer.forward(x, options);
        const host = await fromTensor(output);
        output.dispose();
        disposeState(state);
        return host;
      };
      const expected = await run();
      const faults: (string | null)[] = [
        ...faultSweep(() => {
          const { output, state } = mixer.forward(x, options);
          return [output, ...Object.values(state)];
        }),
        ...faultSweep(() => backward(mixer, x, options), 8),
      ];
      faults.push(bitFault('x after faults', await fromTensor(x), input.x));
      for (const [name, tensor] of Object.entries(first ?? {})) {
        faults.push(bitFault(`state.${name} after faults`, await fromTensor(tensor), before[name]!));
      }
      faults.push(bitFault('output after faults', await run(), expected));
      if (first) disposeState(first);
      const { state: _kept, ...rest } = options;
      tf.dispose([x, rest as tf.TensorContainer]);
      holds(faults);
    }),
};
