import * as tf from '@tensorflow/tfjs-core';
import { isSampling } from '../backends.ts';
import { closenessFault } from '../closeness.ts';
import { gradientsOf } from '../finite-difference.ts';
import { dirtyMemory } from '../poison.ts';
import { holds } from './law.ts';
import type { Law } from './law.ts';
import { bitFault, finiteFault, fromTensor, fullArray, toTensor, tokensOf } from './host.ts';
import { feedAll, isCausal, optionsOf, patternOf, randomInput, sizes, withMixer } from './mixer-subject.ts';
import type { HostInput, MixerSubject } from './mixer-subject.ts';

/** Law 10: extreme inputs give finite outputs, states and gradients. */
export const hardNumericsLaw: Law<MixerSubject> = {
  number: 10,
  title: 'inputs 100 times too large, constant, zero, or a single token give finite outputs, states and gradients',
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { batch, length } = sizes(subject);
      const random = randomInput(subject, mixer.dim, batch, length, 801);
      const context = random.context;
      const shape = random.x.shape;
      const cases: [string, HostInput][] = [
        ['inputs times 100', randomInput(subject, mixer.dim, batch, length, 801, 100)],
        ['constant inputs', { x: fullArray(shape, 1), context: context && fullArray(context.shape, 1) }],
        ['zero inputs', { x: fullArray(shape, 0), context: context && fullArray(context.shape, 0) }],
        ['a single token', { x: tokensOf(random.x, 0, 1), context }],
      ];
      const faults: (string | null)[] = [];
      for (const [label, input] of isSampling() ? cases.slice(0, 1) : cases) {
        const result = await feedAll(mixer, [input]);
        faults.push(finiteFault(`${label}: output`, result.output.data));
        for (const [name, array] of Object.entries(result.state)) faults.push(finiteFault(`${label}: state.${name}`, array.data));
        const x = toTensor(input.x);
        const options = optionsOf(input);
        const parameters = [...mixer.namedParameters()];
        const by = [x, ...parameters.map(([, parameter]) => parameter.value)];
        const gradients = gradientsOf(() => tf.mean(mixer.forward(x, options).output), by);
        for (const [index, gradient] of gradients.entries()) {
          if (!gradient) continue;
          const name = index === 0 ? 'x' : parameters[index - 1]![0];
          faults.push(finiteFault(`${label}: gradient of ${name}`, (await fromTensor(gradient)).data));
          gradient.dispose();
        }
        tf.dispose([x, options as tf.TensorContainer]);
      }
      if (isCausal(mixer)) {
        const [whole, single] = [await feedAll(mixer, [random]), await feedAll(mixer, [cases[3]![1]])];
        const rms = subject.tolerance?.forward ?? 1e-5;
        faults.push(closenessFault('a single token: output', single.output, tokensOf(whole.output, 0, 1), { rms }));
      }
      holds(faults);
    }),
};

/** Law 10: what freed memory holds does not show in a result. */
export const dirtyMemoryLaw: Law<MixerSubject> = {
  number: 10,
  title: 'memory that was freed full of NaN does not show in any output',
  applies: (subject) => (patternOf(subject) ? true : 'unknown pattern'),
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { batch, length } = sizes(subject);
      const input = randomInput(subject, mixer.dim, batch, length, 811);
      const clean = await feedAll(mixer, [input]);
      dirtyMemory();
      const dirty = await feedAll(mixer, [input]);
      holds([
        // both can be NaN where memory was dirty before
        finiteFault('output after dirtying free memory', dirty.output.data),
        bitFault('output after dirtying free memory', dirty.output, clean.output),
        ...Object.entries(clean.state).map(([name, array]) =>
          bitFault(`state.${name} after dirtying free memory`, dirty.state[name]!, array),
        ),
      ]);
    }),
};
