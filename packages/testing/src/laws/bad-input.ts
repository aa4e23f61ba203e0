import * as tf from '@tensorflow/tfjs-core';
import { SeqLoomError, disposeState, mapState } from '@seqloom/core';
import type { MixerOptions, SequenceMixer, State } from '@seqloom/core';
import { recordKernels } from '../fault.ts';
import { holds } from './law.ts';
import type { Law } from './law.ts';
import { optionsOf, randomInput, sizes, withMixer } from './mixer-subject.ts';
import type { MixerSubject } from './mixer-subject.ts';

/** Checks that a call throws one complete SeqLoomError of the mechanism, with no tensor made and no kernel run before. */
export function refusalFault(label: string, mechanism: string, argument: string | RegExp, call: () => unknown): string | null {
  const before = tf.memory().numTensors;
  let error: unknown;
  let result: unknown;
  const kernels = recordKernels(() => {
    try {
      result = call();
    } catch (thrown) {
      error = thrown;
    }
  });
  const made = tf.memory().numTensors - before;
  if (!error) {
    tf.dispose(result as tf.TensorContainer);
    return `${label} was taken without an error`;
  }
  if (!(error instanceof SeqLoomError)) return `${label} gives ${String(error)}, expected a SeqLoomError`;
  if (error.mechanism !== mechanism) return `${label}: the error names the mechanism ${error.mechanism}, expected ${mechanism}`;
  const named = typeof argument === 'string' ? error.argument === argument : argument.test(error.argument);
  if (!named) return `${label}: the error names the argument ${error.argument}, expected ${argument}`;
  for (const part of ['wanted', 'given', 'remedy'] as const) if (!error[part]) return `${label}: the error does not say ${part}`;
  if (kernels.length > 0) return `${label}: ${kernels.length} kernels ran before the error (${kernels.slice(0, 3).join(', ')})`;
  return made === 0 ? null : `${label}: ${made} tensors were made before the error`;
}

/** Law 11: every wrong argument of `forward` gives one error that names the mechanism and the argument, before any work. */
export const badInputLaw: Law<MixerSubject> = {
  number: 11,
  title: 'a wrong rank, shape, dtype, mask, context or state gives one clear error before any work',
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { batch } = sizes(subject);
      const input = randomInput(subject, mixer.dim, batch, 3, 901);
      const options = optionsOf(input);
      const state = mixer.initialState(batch);
      const { mechanism, dim } = mixer;
      const faults: (string | null)[] = [];
      const refuse = (label: string, argument: string | RegExp, x: tf.Tensor, change: Partial<MixerOptions> = {}): void => {
        faults.push(refusalFault(label, mechanism, argument, () => mixer.forward(x, { ...options, ...change })));
        tf.dispose(x);
        for (const [key, value] of Object.entries(change)) if (key !== 'state' && value instanceof tf.Tensor) value.dispose();
      };
      const good = (): tf.Tensor => tf.zeros([batch, 3, dim]);
      refuse('x of rank 2', 'x', tf.zeros([batch, dim]));
      refuse('x of rank 4', 'x', tf.zeros([batch, 3, 1, dim]));
      refuse('x of another width', 'x', tf.zeros([batch, 3, dim + 1]));
      refuse('x without tokens', 'x', tf.zeros([batch, 0, dim]));
      refuse('x of dtype int32', 'x', tf.zeros([batch, 3, dim], 'int32'));
      refuse('a mask of another length', 'mask', good(), { mask: tf.ones([batch, 4]) });
      refuse('a mask of rank 1', 'mask', good(), { mask: tf.ones([3]) });
      if (input.context) {
        const width = input.context.shape[2]!;
        const alone = good();
        faults.push(refusalFault('a missing context', mechanism, 'context', () => mixer.forward(alone, {})));
        alone.dispose();
        refuse('a context of rank 2', 'context', good(), { context: tf.zeros([batch, width]) });
        refuse('a context of another batch', 'context', good(), { context: tf.zeros([batch + 1, 3, width]) });
        refuse('a contextMask of another length', 'contextMask', good(), { contextMask: tf.ones([batch, input.context.shape[1]! + 1]) });
      } else {
        refuse('a context that the pattern has no use for', 'context', good(), { context: tf.zeros([batch, 3, dim]) });
      }
      badStates(mixer, state, batch, (label, argument, wrong) => refuse(label, argument, good(), { state: wrong }));
      disposeState(state);
      tf.dispose(options as tf.TensorContainer);
      holds(faults);
    }),
};

function badStates(
  mixer: SequenceMixer,
  state: State,
  batch: number,
  refuse: (label: string, argument: RegExp, wrong: State) => void,
): void {
  const { position, ...rest } = state;
  const wrongs: [string, RegExp, State][] = [
    ['a state without position', /^state/, { ...rest } as unknown as State],
    ['a state with an unknown tensor', /^state/, { ...state, unheardOf: position }],
    ['a state of another batch', /^state/, mixer.initialState(batch + 1)],
    ['a state of dtype int32', /^state/, mapState(state, (tensor) => tf.cast(tensor, 'int32'))],
  ];
  const names = Object.keys(rest);
  if (names.length > 0) {
    const name = names[0]!;
    const tensor = state[name]!;
    wrongs.push(['a state tensor of another rank', /^state/, { ...state, [name]: tf.expandDims(tensor, 0) }]);
    const { [name]: _dropped, ...without } = state;
    wrongs.push(['a state that lacks a tensor', /^state/, without as unknown as State]);
  }
  const theirs = new Set<tf.Tensor>(Object.values(state));
  for (const [label, argument, wrong] of wrongs) {
    refuse(label, argument, wrong);
    for (const tensor of Object.values(wrong)) if (!theirs.has(tensor)) tensor.dispose();
  }
}

/** Law 11: the constructor refuses unknown keys and wrong types, and what the subject lists, before it makes a parameter. */
export const badConfigLaw: Law<MixerSubject> = {
  number: 11,
  title: 'an unknown or wrong config key gives one clear error before any parameter is made',
  applies: (subject) => {
    const mixer = subject.build() as SequenceMixer & { config?: unknown };
    const has = typeof mixer.config === 'object' && mixer.config !== null;
    mixer.dispose();
    return has || subject.badConfigs ? true : 'the mixer keeps no config object and the subject lists no bad ones';
  },
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { config, constructor, mechanism } = mixer as unknown as {
        config?: Readonly<Record<string, unknown>>;
        constructor: new (config: unknown) => unknown;
        mechanism: string;
      };
      const faults: (string | null)[] = [];
      if (config) {
        const build = (change: object) => () => new constructor({ ...config, ...change });
        faults.push(refusalFault('an unknown config key', mechanism, 'config.unheardOf', build({ unheardOf: 1 })));
        for (const dim of Object.hasOwn(config, 'dim') ? ['eight', 0, 1.5] : []) {
          faults.push(refusalFault(`config.dim of ${JSON.stringify(dim)}`, mechanism, 'config.dim', build({ dim })));
        }
        faults.push(refusalFault('a config that is null', mechanism, 'config', () => new constructor(null)));
        if (JSON.stringify(JSON.parse(JSON.stringify(config))) !== JSON.stringify(config)) faults.push('the config is not plain JSON');
      }
      for (const { build, argument } of subject.badConfigs ?? []) {
        faults.push(refusalFault(`the bad config of ${argument}`, mechanism, argument, build));
      }
      holds(faults);
    }),
};
