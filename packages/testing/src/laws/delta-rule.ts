import * as tf from '@tensorflow/tfjs-core';
import { tidy } from '@seqloom/core';
import type { MechanismCard } from '@seqloom/core';
import { it } from 'vitest';
import type { GoldenSubject } from '../golden.ts';
import { checkKernelParity, expectCloseTo } from '../kernel-parity.ts';
import { mapArrays64, sizeOf, uniform64 } from '../oracle/array64.ts';
import type { Array64, Arrays64 } from '../oracle/array64.ts';
import { formsOf } from './op-forms.ts';
import { opTensor } from './op-subject.ts';
import type { OpSubject } from './op-subject.ts';

/** Tensors of a gated delta rule; value heads may be a multiple of key heads. */
export type DeltaRuleTensors = Readonly<Record<'query' | 'key' | 'value' | 'logDecay' | 'beta', tf.Tensor>>;

/** The same and a first memory. */
export type DeltaRuleInputs = DeltaRuleTensors & { readonly memory: tf.Tensor };

type DeltaRuleForm = 'chunk' | 'recurrent';

/** A gated delta rule that the laws hold to its specification. */
export interface DeltaRule {
  readonly card: MechanismCard;
  /** log decays are per channel of the keys, [B, T, H, K]; without it per head, [B, T, H] */
  readonly perChannel: boolean;
  readonly op: (
    tensors: DeltaRuleTensors,
    options?: { state?: { memory: tf.Tensor }; form?: DeltaRuleForm; chunkSize?: number; scale?: number; mask?: tf.Tensor },
  ) => { readonly output: tf.Tensor; readonly state: { readonly memory: tf.Tensor } };
  readonly naive: (inputs: Arrays64) => Arrays64;
}

/** Forms that such an op has. */
export const DELTA_RULE_FORMS: readonly DeltaRuleForm[] = ['chunk', 'recurrent'];

/** Random inputs of two key heads; keys are at most of length one, so that beta up to 2 is stable. */
function inputsOf({ perChannel }: DeltaRule, length: number, seed: number, group: number): Record<string, Array64> {
  return {
    query: uniform64([2, length, 2, 4], seed, -2, 2),
    key: uniform64([2, length, 2, 4], seed + 1, -0.5, 0.5),
    value: uniform64([2, length, 2 * group, 3], seed + 2),
    logDecay: uniform64([2, length, 2 * group, ...(perChannel ? [4] : [])], seed + 3, -1, 0),
    beta: uniform64([2, length, 2 * group], seed + 4, 0, group),
    memory: uniform64([2, 2 * group, 4, 3], seed + 5),
  };
}

/**
 * Runs both forms on 20 random tokens, with some inputs replaced, beside what is wanted.
 *
 * @param change inputs to replace, from the random ones: two rows, two key heads of four channels, values of three
 * @param wanted memory and, where it is known, output, from the inputs as changed
 * @param group value heads per key head
 */
export async function inBothForms(
  rule: DeltaRule,
  change: (inputs: DeltaRuleInputs) => Partial<DeltaRuleTensors>,
  wanted: (inputs: DeltaRuleInputs) => { output?: tf.Tensor; memory: tf.Tensor },
  group = 1,
): Promise<void> {
  const same = async (given: tf.Tensor, right: tf.Tensor, label: string): Promise<void> =>
    expectCloseTo(given, { shape: right.shape, data: Float64Array.from(await right.data()) }, 1e-5, label);
  for (const form of DELTA_RULE_FORMS) {
    const { given, right } = tidy(() => {
      const arrays = Object.entries(inputsOf(rule, 20, 5, group));
      const random = Object.fromEntries(arrays.map(([name, array]) => [name, opTensor(array)])) as unknown as DeltaRuleInputs;
      const { memory, ...tensors } = { ...random, ...change(random) };
      const { output, state } = rule.op(tensors, { form, chunkSize: 16, state: { memory } });
      return { given: { output, memory: state.memory }, right: wanted({ ...tensors, memory }) };
    });
    await same(given.memory, right.memory, `memory, ${form}`);
    if (right.output) await same(given.output, right.output, `output, ${form}`);
    tf.dispose([given, { ...right }]);
  }
}

/** Calls that every such op refuses. */
function badInputsOf({ op, perChannel }: DeltaRule): OpSubject['badInputs'] {
  const shapes = (length: number): DeltaRuleTensors => ({
    query: tf.zeros([1, length, 2, 4]),
    key: tf.zeros([1, length, 2, 4]),
    value: tf.zeros([1, length, 2, 3]),
    logDecay: tf.zeros([1, length, 2, ...(perChannel ? [4] : [])]),
    beta: tf.zeros([1, length, 2]),
  });
  const replaced = (tensors: () => Partial<DeltaRuleTensors>) => () => tidy(() => op({ ...shapes(2), ...tensors() }));
  return [
    { title: 'a query of rank 3', argument: 'query', call: replaced(() => ({ query: tf.zeros([1, 2, 4]) })) },
    { title: 'no tokens', argument: 'query', call: replaced(() => shapes(0)) },
    { title: 'a key of fewer heads', argument: 'key', call: replaced(() => ({ key: tf.zeros([1, 2, 1, 4]) })) },
    { title: 'three value heads for two key heads', argument: 'value', call: replaced(() => ({ value: tf.zeros([1, 2, 3, 3]) })) },
    perChannel
      ? { title: 'one decay per head', argument: 'logDecay', call: replaced(() => ({ logDecay: tf.zeros([1, 2, 2]) })) }
      : { title: 'a decay per channel', argument: 'logDecay', call: replaced(() => ({ logDecay: tf.zeros([1, 2, 2, 4]) })) },
    { title: 'beta of another length', argument: 'beta', call: replaced(() => ({ beta: shapes(3).beta })) },
    {
      title: 'a state of another width',
      argument: 'state.memory',
      call: () => tidy(() => op(shapes(2), { state: { memory: tf.zeros([1, 2, 4, 4]) } })),
    },
    { title: 'an infinite scale', argument: 'scale', call: () => tidy(() => op(shapes(2), { scale: Infinity })) },
  ];
}

/**
 * What `opLaws` must know of a gated delta rule.
 *
 * @param settings name of the variant, value heads per key head, which is also the largest beta, lengths, and the card's equalities
 */
export function deltaRuleSubject(
  rule: DeltaRule,
  { name, group = 1, lengths, degenerate }: Pick<OpSubject, 'name' | 'lengths' | 'degenerate'> & { readonly group?: number },
): OpSubject {
  return {
    card: rule.card,
    ...(name ? { name } : {}),
    ...(degenerate ? { degenerate } : {}),
    ...(lengths ? { lengths } : {}),
    badInputs: badInputsOf(rule)!,
    inputs: (length, seed) => inputsOf(rule, length, seed, group),
    gradients: ['query', 'key', 'value', 'logDecay', 'beta', 'memory'],
    naive: rule.naive,
    forms: formsOf(rule.op, DELTA_RULE_FORMS, { chunkSize: 16 }),
    hard: [
      {
        title: 'log decays from 0 to -100 and minus infinity, beta of 0, 1 and 2',
        inputs: () =>
          mapArrays64(inputsOf(rule, 40, 3, group), {
            logDecay: (_, at) => [0, -1e-7, 0, -30, -1e-7, -100, 0, -1e-3, -Infinity, 0, 0][at % 11]!,
            beta: (_, at) => at % 3,
          }),
      },
    ],
  };
}

/** Runs a form on the vectors of flash-linear-attention, under their names. */
export function deltaRuleGolden({ op }: DeltaRule, form: DeltaRuleForm): GoldenSubject['run'] {
  return ({ inputs }) => {
    const { q, k, v, g, beta, initial_state: memory } = inputs as Record<string, tf.Tensor>;
    const tensors = { query: q!, key: k!, value: v!, logDecay: g!, beta: beta! };
    const result = op(tensors, { form, chunkSize: 16, ...(memory ? { state: { memory } } : {}) });
    return { o: result.output, final_state: result.state.memory };
  };
}

/** Log decays of every size, beta of 0, 1 and 2, keys at most of length one. */
function hardInputsOf({ perChannel }: DeltaRule, length: number): Record<string, Array64> {
  const cycle = (shape: number[], values: readonly number[]): Array64 => ({
    shape,
    data: Float64Array.from({ length: sizeOf(shape) }, (_, at) => values[(at * 7 + (at >> 4)) % values.length]!),
  });
  return {
    query: uniform64([2, length, 2, 4], 1),
    key: uniform64([2, length, 2, 4], 2, -0.5, 0.5),
    value: uniform64([2, length, 2, 3], 3),
    logDecay: cycle([2, length, 2, ...(perChannel ? [4] : [])], [0, -100, -1e-7, -0.5, 0, -30, -1e-3, 0, -2].map(Math.fround)),
    beta: cycle([2, length, 2], [0, 1, 2, 0.5]),
    memory: uniform64([2, 2, 4, 3], 5),
  };
}

/** Declares the tests that padding and pieces give what the specification gives, gradients included, with log decays from 0 to -100. */
export function testHardDecays(rule: DeltaRule, backend: string): void {
  const differentiate = ['query', 'key', 'value', 'logDecay', 'beta', 'memory'];
  it.each(DELTA_RULE_FORMS)('padding anywhere neither fades nor writes, %s', async (form) => {
    const mask = { shape: [2, 9], data: Float64Array.of(0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 0) };
    await checkKernelParity(backend, {
      inputs: { ...hardInputsOf(rule, 9), mask },
      differentiate,
      run: ({ mask: given, memory, ...tensors }) => {
        const settings = { form, chunkSize: 4, state: { memory: memory! }, mask: given! };
        const { output, state } = rule.op(tensors as DeltaRuleTensors, settings);
        return { output, memory: state.memory };
      },
      oracle: (arrays) => rule.naive(arrays) as Record<string, Array64>,
    });
  });

  it('pieces with log decays from 0 to -100 give outputs, memory and gradients of the whole', async () => {
    await checkKernelParity(backend, {
      inputs: hardInputsOf(rule, 30),
      differentiate,
      run: ({ memory, ...tensors }) =>
        tidy(() => {
          let state = { memory: memory! };
          const outputs: tf.Tensor[] = [];
          let start = 0;
          for (const size of [1, 13, 2, 1, 13]) {
            const piece = Object.entries(tensors).map(([name, tensor]) => [name, tf.slice(tensor!, [0, start], [2, size])]);
            const result = rule.op(Object.fromEntries(piece) as DeltaRuleTensors, { state, chunkSize: 8 });
            outputs.push(result.output);
            state = result.state;
            start += size;
          }
          return { output: tf.concat(outputs, 1), memory: state.memory };
        }),
      oracle: (arrays) => rule.naive(arrays) as Record<string, Array64>,
    });
  });
}
