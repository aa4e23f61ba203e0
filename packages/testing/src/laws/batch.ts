import { closenessFault } from '../closeness.ts';
import { holds } from './law.ts';
import type { Law } from './law.ts';
import { joinRows, randomArray, rowOf } from './host.ts';
import { feedAll, randomInput, sizes, stateFaults, withMixer } from './mixer-subject.ts';
import type { MixerSubject } from './mixer-subject.ts';

/** Law 6, second half: a row gives the same output and state whatever the other rows hold, and alone. */
export const batchLaw: Law<MixerSubject> = {
  number: 6,
  sampled: false,
  title: 'rows of a batch do not see one another',
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { length } = sizes(subject);
      const batch = Math.max(2, sizes(subject).batch);
      const rms = subject.tolerance?.independence ?? 1e-6;
      const input = randomInput(subject, mixer.dim, batch, length, 301);
      const base = await feedAll(mixer, [input]);
      const others = randomArray(input.x.shape, 302, 5);
      const mixed = Array.from({ length: batch }, (_, b) => rowOf(b === 0 ? input.x : others, b));
      const changed = await feedAll(mixer, [{ ...input, x: joinRows(mixed) }]);
      const first = (state: typeof base.state): typeof base.state =>
        Object.fromEntries(Object.entries(state).map(([name, array]) => [name, rowOf(array, 0)]));
      const faults = [
        closenessFault('row 0 after the others changed: output', rowOf(changed.output, 0), rowOf(base.output, 0), { rms, max: rms }),
        ...stateFaults('row 0 after the others changed', first(changed.state), first(base.state), rms),
      ];
      // alone, a backend may add up in another order
      const loose = subject.tolerance?.forward ?? 1e-5;
      for (let b = 0; b < batch; b++) {
        const alone = await feedAll(mixer, [{ x: rowOf(input.x, b), context: input.context && rowOf(input.context, b) }]);
        const row = Object.fromEntries(Object.entries(base.state).map(([name, array]) => [name, rowOf(array, b)]));
        faults.push(closenessFault(`row ${b} alone: output`, alone.output, rowOf(base.output, b), { rms: loose }));
        faults.push(...stateFaults(`row ${b} alone`, alone.state, row, loose));
      }
      holds(faults);
    }),
};
