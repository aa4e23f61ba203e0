import { disposeState, loadState, saveState, stateBytes } from '@seqloom/core';
import { holds } from './law.ts';
import type { Law } from './law.ts';
import { bitFault, fromTensor } from './host.ts';
import type { HostArray } from './host.ts';
import { canSplit, feed, needsPieces, randomInput, readState, sizes, withMixer } from './mixer-subject.ts';
import type { MixerSubject } from './mixer-subject.ts';

/** Law 9: the promised bytes are those of the real buffers, and those that the card's formula gives. */
export const stateBytesLaw: Law<MixerSubject> = {
  number: 9,
  sampled: false,
  title: 'stateBytes equals the real buffers, and the formula of the card',
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { batch, length } = sizes(subject);
      const faults: (string | null)[] = [];
      const initial = mixer.initialState(batch);
      const start = stateBytes(initial);
      if (start !== mixer.stateBytes(batch, 0))
        faults.push(`the initial state has ${start} bytes, stateBytes says ${mixer.stateBytes(batch, 0)}`);
      for (const name of Object.keys(initial))
        if (initial[name]!.dtype !== 'float32') faults.push(`state.${name} is ${initial[name]!.dtype}`);
      disposeState(initial);
      for (const tokens of canSplit(mixer) ? [1, length] : [length]) {
        const { state } = await feed(mixer, randomInput(subject, mixer.dim, batch, tokens, 701));
        const real = stateBytes(state);
        const said = mixer.stateBytes(batch, tokens);
        if (real !== said) faults.push(`after ${tokens} tokens the state has ${real} bytes, stateBytes says ${said}`);
        const position = [...(await state.position.data())];
        if (position.some((value) => value !== tokens)) faults.push(`after ${tokens} tokens the position is ${position.join(', ')}`);
        disposeState(state);
      }
      if (subject.dims) {
        for (const tokens of [0, 1, length, 1000]) {
          // the counter of tokens, 4 bytes per row, may be left out of a card's formula
          const said = mixer.stateBytes(1, tokens);
          const card = subject.card.stateBytes(tokens, subject.dims);
          if (card !== said && card !== said - 4) {
            faults.push(`card.stateBytes(${tokens}) is ${card}, the mixer says ${said} (${said - 4} without the position)`);
          }
        }
      }
      holds(faults);
    }),
};

/** Law 9: a state goes through bytes and continues bit-equal; an old one still works, and is unchanged, after newer ones were used. */
export const stateReuseLaw: Law<MixerSubject> = {
  number: 9,
  title: 'save, load, continue is bit-equal, and an old state still works after a newer one was used',
  applies: needsPieces,
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { batch } = sizes(subject);
      const [a, b, c] = [5, 3, 2].map((length, i) => randomInput(subject, mixer.dim, batch, length, 711 + 2 * i));
      const context = a!.context;
      const first = await feed(mixer, { ...a!, context });
      const asItWas = await readState(first.state);
      const second = await feed(mixer, { ...b!, context }, first.state);
      const third = await feed(mixer, { ...c!, context }, second.state);
      const faults: (string | null)[] = [];
      const same = async (label: string, result: typeof second): Promise<void> => {
        faults.push(bitFault(`${label}: output`, result.output, second.output));
        const [given, wanted] = [await readState(result.state), await readState(second.state)];
        for (const [name, array] of Object.entries(wanted)) faults.push(bitFault(`${label}: state.${name}`, given[name]!, array));
        disposeState(result.state);
      };
      await same('the old state used again', await feed(mixer, { ...b!, context }, first.state));
      const loaded = loadState(await saveState(first.state));
      await same('the state saved and loaded', await feed(mixer, { ...b!, context }, loaded));
      const kept: Record<string, HostArray> = {};
      for (const [name, tensor] of Object.entries(first.state)) kept[name] = await fromTensor(tensor);
      for (const [name, array] of Object.entries(asItWas)) faults.push(bitFault(`the old state.${name}`, kept[name]!, array));
      for (const state of [first.state, second.state, third.state, loaded]) disposeState(state);
      holds(faults);
    }),
};
