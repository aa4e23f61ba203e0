import type * as tf from '@tensorflow/tfjs-core';
import type { Array64 } from '../oracle/array64.ts';
import type { OpForm } from './op-subject.ts';

/**
 * The forms of an op that takes tensors and options and gives an output and a state of one memory: the inputs `memory` and `mask` become its
 * options, and what it gives is named `output` and `memory`.
 *
 * @param op such as `linearAttention`
 * @param forms their names
 * @param settings its other options
 */
export function formsOf<Tensors, Options extends { readonly form?: string }>(
  op: (tensors: Tensors, options?: Options) => { readonly output: tf.Tensor; readonly state: { readonly memory: tf.Tensor } },
  forms: readonly NonNullable<Options['form']>[],
  settings: Omit<Options, 'form' | 'state' | 'mask'> = {} as Options,
): Record<string, OpForm['run']> {
  const runIn =
    (form: string): OpForm['run'] =>
    ({ memory, mask, ...tensors }) => {
      const options = { ...settings, form, ...(memory ? { state: { memory } } : {}), ...(mask ? { mask } : {}) };
      const { output, state } = op(tensors as Tensors, options as unknown as Options);
      return { output, memory: state.memory };
    };
  return Object.fromEntries(forms.map((form) => [form, runIn(form)]));
}

/** A mask of two rows with padding at the front, in the middle and at the end. */
export function paddingMask(length: number): Array64 {
  return { shape: [2, length], data: Float64Array.from({ length: 2 * length }, (_, i) => (i % 5 === 0 ? 0 : 1)) };
}
