import { checkSetting, tidy } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import { checkRule } from '../rule/run-rule.ts';
import type { RuleOptions, RuleState } from '../rule/run-rule.ts';
import type { Decayed, DecayedCall, DecayedTensors } from './parallel.ts';

/** Options of an op with one constant decay per head; everything has a default. */
export interface DecayedOptions extends Omit<RuleOptions, 'form'> {
  /** default causal-self */
  readonly pattern?: 'causal-self' | 'noncausal-self';
  /** default the first one that the pattern has, of chunk, parallel, recurrent */
  readonly form?: 'parallel' | 'chunk' | 'recurrent';
}

/** Output and state of such an op; the caller owns both. */
export interface DecayedResult {
  /** [B, T, H, V] */
  readonly output: tf.Tensor4D;
  readonly state: RuleState;
}

type Form = 'chunk' | 'parallel' | 'recurrent';

/** What is the mechanism's own in such a call. */
export interface DecayedMechanism {
  readonly mechanism: string;
  readonly forms: Readonly<Record<Form, (tensors: DecayedTensors, call: DecayedCall) => Decayed>>;
  /** forms of the noncausal pattern, the default first */
  readonly noncausalForms: readonly Form[];
  /** gives the log decay of each head and the scale, once the tensors are known to be right */
  readonly settle: (heads: number, keyDim: number, noncausal: boolean) => Pick<DecayedCall, 'logDecay' | 'scale'>;
}

/**
 * Checks a call in the name of the mechanism and runs its form.
 *
 * @throws SeqLoomError on a wrong rank, shape, dtype, or settings that do not go together
 */
export function runDecayed(
  { mechanism, forms, noncausalForms, settle }: DecayedMechanism,
  tensors: DecayedTensors,
  options: DecayedOptions,
): DecayedResult {
  const { pattern = 'causal-self', form: wanted, ...rest } = options;
  checkRule(mechanism, 'linear', tensors, rest);
  const { chunkSize, state, mask } = rest;
  const [heads, keyDim] = tensors.key.shape.slice(2) as [number, number];
  const queryHeads = tensors.query.shape[2]!;
  const noncausal = pattern === 'noncausal-self';
  const refuse = (name: string, wrong: boolean, wanted: string, given: unknown, remedy: string): void =>
    checkSetting(mechanism, name, !wrong, wanted, given, remedy);
  refuse('query', queryHeads !== heads, `of ${heads} heads, like the key`, queryHeads, 'Repeat keys and values for grouped heads.');
  refuse('pattern', !noncausal && pattern !== 'causal-self', 'causal-self or noncausal-self', pattern, 'Leave it out for causal-self.');
  const known: readonly Form[] = noncausal ? noncausalForms : ['chunk', 'parallel', 'recurrent'];
  const form = wanted ?? known[0]!;
  refuse('form', !known.includes(form), `${known.join(' or ')} for ${pattern}`, form, `Leave it out for ${known[0]}.`);
  refuse('state', noncausal && state !== undefined, 'left out for noncausal-self', 'a state', 'Pass all tokens at once.');
  const call = { ...settle(heads, keyDim, noncausal), noncausal, chunkSize, mask, memory: state?.memory };
  const { output, memory } = tidy(() => forms[form](tensors, call));
  return { output, state: { memory } };
}
