import { checkSetting, tidy } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import { checkRule } from '../rule/run-rule.ts';
import type { RuleOptions, RuleState } from '../rule/run-rule.ts';
import { chunkForm } from './chunk.ts';
import { parallelForm } from './parallel.ts';
import type { DecayedCall, DecayedTensors } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

/** Options of an op with one constant decay per head; everything has a default. */
export interface DecayedOptions extends Omit<RuleOptions, 'form'> {
  /** default causal-self */
  readonly pattern?: 'causal-self' | 'noncausal-self';
  /** default chunk; the noncausal pattern has no recurrent form */
  readonly form?: 'parallel' | 'chunk' | 'recurrent';
}

/** Output and state of such an op; the caller owns both. */
export interface DecayedResult {
  /** [B, T, H, V] */
  readonly output: tf.Tensor4D;
  readonly state: RuleState;
}

const FORMS = { parallel: parallelForm, chunk: chunkForm, recurrent: recurrentForm };

/**
 * Checks a call in the name of the mechanism and runs its form.
 *
 * @param settle gives the log decay of each head and the scale, once the tensors are known to be right
 * @throws SeqLoomError on a wrong rank, shape, dtype, or settings that do not go together
 */
export function runDecayed(
  mechanism: string,
  tensors: DecayedTensors,
  options: DecayedOptions,
  settle: (heads: number, keyDim: number) => Pick<DecayedCall, 'logDecay' | 'scale'>,
): DecayedResult {
  const { pattern = 'causal-self', form = 'chunk', ...rest } = options;
  checkRule(mechanism, 'linear', tensors, rest);
  const { chunkSize, state, mask } = rest;
  const [heads, keyDim] = tensors.key.shape.slice(2) as [number, number];
  const queryHeads = tensors.query.shape[2]!;
  const noncausal = pattern === 'noncausal-self';
  const refuse = (name: string, wrong: boolean, wanted: string, given: unknown, remedy: string): void =>
    checkSetting(mechanism, name, !wrong, wanted, given, remedy);
  refuse('query', queryHeads !== heads, `of ${heads} heads, like the key`, queryHeads, 'Repeat keys and values for grouped heads.');
  refuse('pattern', !noncausal && pattern !== 'causal-self', 'causal-self or noncausal-self', pattern, 'Leave it out for causal-self.');
  refuse('form', !Object.hasOwn(FORMS, form), `one of ${Object.keys(FORMS).join(', ')}`, form, 'Leave it out for chunk.');
  refuse('form', noncausal && form === 'recurrent', 'parallel or chunk for noncausal-self', form, 'Leave it out for chunk.');
  refuse('state', noncausal && state !== undefined, 'left out for noncausal-self', 'a state', 'Pass all tokens at once.');
  const call = { ...settle(heads, keyDim), noncausal, chunkSize, mask, memory: state?.memory };
  const { output, memory } = tidy(() => FORMS[form](tensors, call));
  return { output, state: { memory } };
}
