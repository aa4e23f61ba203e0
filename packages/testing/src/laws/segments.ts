import { disposeState } from '@seqloom/core';
import type { SequenceMixer, State } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { closenessFault } from '../closeness.ts';
import { countTensors, leakFault } from '../leak.ts';
import { fromTensor, pickTokens, randomArray, rowOf, toTensor } from './host.ts';
import type { HostArray } from './host.ts';
import { holds } from './law.ts';
import type { Law } from './law.ts';
import { canSplit, feed, feedAll, patternOf, readState, withMixer } from './mixer-subject.ts';
import type { MixerSubject } from './mixer-subject.ts';

// two rows of ten tokens: three segments, one of a single token, and padding; two segments and padding in front
const SEGMENTS = [
  [4, 4, 4, 4, 1, 2, 2, 2, 0, 0],
  [0, 1, 1, 1, 1, 1, 7, 7, 7, 7],
];

/** Law 6, for packed sequences: segments of a row give what they give when they are fed apart, and the state is the last one's. */
export const segmentLaw: Law<MixerSubject> = {
  number: 6,
  sampled: false,
  title: 'packed segments do not see one another',
  applies: (subject) => (patternOf(subject).endsWith('self') ? true : 'a cross pattern has a context per row'),
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const rms = subject.tolerance?.forward ?? 1e-5;
      const input = randomArray([2, 10, mixer.dim], 501);
      const before = canSplit(mixer) ? (await feed(mixer, { x: randomArray([2, 3, mixer.dim], 502) })).state : undefined;
      const counted = countTensors();
      const packed = await feedSegments(mixer, input, before);
      const faults: (string | null)[] = [leakFault(counted, 'packed forward')];
      for (const [row, ids] of SEGMENTS.entries()) {
        const order = [...new Set(ids.filter((id) => id > 0))];
        for (const [at, id] of order.entries()) {
          const tokens = ids.flatMap((each, t) => (each === id ? [t] : []));
          const x = pickTokens(rowOf(input, row), tokens);
          const start = at === 0 && before ? rowState(before, row) : undefined;
          const alone = start ? await continued(mixer, x, start) : await feedAll(mixer, [{ x }]);
          if (start) disposeState(start);
          const label = `row ${row}, segment ${id}`;
          faults.push(closenessFault(`${label}: output`, pickTokens(rowOf(packed.output, row), tokens), alone.output, { rms }));
          if (at < order.length - 1) continue;
          const shapes = mixer.stateShapes(1);
          for (const [name, wanted] of Object.entries(alone.state)) {
            // caches of rows that saw less have zeros in front; their tokens are compared through the outputs above
            if (name !== 'position' && (shapes[name] ?? []).includes('length')) continue;
            faults.push(closenessFault(`${label}: state.${name}`, rowOf(packed.state[name]!, row), wanted, { rms }));
          }
        }
        const padding = ids.flatMap((id, t) => (id === 0 ? [t] : []));
        const atPadding = pickTokens(rowOf(packed.output, row), padding).data;
        if (atPadding.some((value) => value !== 0)) faults.push(`row ${row}: outputs at padding are not zero`);
      }
      if (before) disposeState(before);
      holds(faults);
    }),
};

type Fed = { readonly output: HostArray; readonly state: Readonly<Record<string, HostArray>> };

async function feedSegments(mixer: SequenceMixer, input: HostArray, state: State | undefined): Promise<Fed> {
  const x = toTensor(input);
  const result = mixer.forward(x, { segmentIds: SEGMENTS, ...(state ? { state } : {}) });
  const host = { output: await fromTensor(result.output), state: await readState(result.state) };
  disposeState(result.state);
  tf.dispose([x, result.output]);
  return host;
}

async function continued(mixer: SequenceMixer, x: HostArray, start: State): Promise<Fed> {
  const { output, state } = await feed(mixer, { x }, start);
  const host = await readState(state);
  disposeState(state);
  return { output, state: host };
}

function rowState(state: State, row: number): State {
  return Object.fromEntries(
    Object.entries(state).map(([name, tensor]) => [
      name,
      tf.slice(tensor, [row, ...tensor.shape.slice(1).map(() => 0)], [1, ...tensor.shape.slice(1)]),
    ]),
  ) as unknown as State;
}
