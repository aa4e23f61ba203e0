import { closenessFault } from '../closeness.ts';
import { holds } from './law.ts';
import type { Law } from './law.ts';
import { randomArray, tokensOf } from './host.ts';
import type { HostArray } from './host.ts';
import { feedAll, isCausal, randomInput, sizes, withMixer } from './mixer-subject.ts';
import type { MixerSubject } from './mixer-subject.ts';

/** Adds large noise to token t of every row. */
function disturb(x: HostArray, t: number, seed: number): HostArray {
  const [batch, length, width] = x.shape as [number, number, number];
  const noise = randomArray([batch, width], seed, 3).data;
  return { shape: x.shape, data: x.data.map((v, i) => (Math.floor(i / width) % length === t ? v + noise[i % width]! : v)) };
}

function largestChange(a: HostArray, b: HostArray): number {
  return a.data.reduce((most, value, i) => Math.max(most, Math.abs(value - b.data[i]!)), 0);
}

/** Law 4: a changed token changes no earlier output of a causal mixer, and some earlier output of a noncausal one. */
export const causalityLaw: Law<MixerSubject> = {
  number: 4,
  sampled: false,
  title: 'a token reaches exactly the outputs that the pattern lets it reach',
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { batch, length } = sizes(subject);
      const bound = subject.tolerance?.independence ?? 1e-6;
      const input = randomInput(subject, mixer.dim, batch, length, 201);
      const { output } = await feedAll(mixer, [input]);
      const faults: (string | null)[] = [];
      if (!subject.card.patterns.includes(mixer.pattern)) faults.push(`the pattern ${mixer.pattern} is not on the card`);
      const cross = mixer.pattern.endsWith('cross');
      for (const t of new Set([1, 4, Math.floor(length / 2), length - 1])) {
        const changed = (await feedAll(mixer, [{ ...input, x: disturb(input.x, t, 202 + t) }])).output;
        const before = closenessFault(`outputs before the changed token ${t}`, tokensOf(changed, 0, t), tokensOf(output, 0, t), {
          rms: bound,
          max: bound,
        });
        if (isCausal(mixer) || cross) faults.push(before);
        else if (largestChange(tokensOf(changed, 0, t), tokensOf(output, 0, t)) === 0) {
          faults.push(`token ${t} changes no output before it, though the pattern is ${mixer.pattern}`);
        }
        const after = largestChange(tokensOf(changed, t, length), tokensOf(output, t, length));
        if (after === 0) faults.push(`token ${t} changes no output at all`);
      }
      if (input.context) {
        const last = input.context.shape[1]! - 1;
        const changed = (await feedAll(mixer, [{ ...input, context: disturb(input.context, last, 299) }])).output;
        if (isCausal(mixer) && last < length) {
          const label = `outputs before the changed context token ${last}`;
          faults.push(closenessFault(label, tokensOf(changed, 0, last), tokensOf(output, 0, last), { rms: bound, max: bound }));
        } else if (!isCausal(mixer) && largestChange(tokensOf(changed, 0, 1), tokensOf(output, 0, 1)) === 0) {
          faults.push(`context token ${last} does not reach output 0, though the pattern is ${mixer.pattern}`);
        }
      }
      holds(faults);
    }),
};
