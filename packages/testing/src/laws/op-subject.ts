import * as tf from '@tensorflow/tfjs-core';
import type { MechanismCard } from '@seqloom/core';
import { isSampling } from '../backends.ts';
import { directionalDerivative64, signs } from '../finite-difference.ts';
import { randomStream, uniform64 } from '../oracle/array64.ts';
import type { Array64, Arrays64 } from '../oracle/array64.ts';

/** Tensors by name, as a form receives them; an absent optional input is `undefined`. */
export type OpTensors = Readonly<Record<string, tf.Tensor | undefined>>;

/** One form of an op. */
export interface OpForm {
  /** runs it on the current backend; returns outputs under the names that `naive` uses, owned by the caller */
  readonly run: (inputs: OpTensors) => Readonly<Record<string, tf.Tensor | undefined>>;
  /** lengths that it takes, default all of the subject's; a decode form takes `[1]` */
  readonly lengths?: readonly number[];
  /** inputs that it has gradients of, default all of the subject's; `[]` for a form that only infers */
  readonly gradients?: readonly string[];
  /** outputs that it gives, default all of naive's */
  readonly outputs?: readonly string[];
}

/** An op, its specification in double precision, and what the laws must know to test it. */
export interface OpSubject {
  readonly card: MechanismCard;
  /** stands in the suite's title, default the card's id; name the variant here */
  readonly name?: string;
  /** the specification: outputs by name from inputs by name, in double precision */
  readonly naive: (inputs: Arrays64) => Arrays64;
  /** every form of the card but `naive` */
  readonly forms: Readonly<Record<string, OpForm | OpForm['run']>>;
  /** random inputs of a length, exact in float32 (`uniform64`); give a random start state too, so that parity covers it */
  readonly inputs: (length: number, seed: number) => Arrays64;
  /** names of inputs that become int32 tensors */
  readonly integers?: readonly string[];
  /** names of the inputs to differentiate by */
  readonly gradients: readonly string[];
  /** outputs that take part in the loss, default all of naive's; leave out those that can be infinite */
  readonly lossOutputs?: readonly string[];
  /** default 1, 7, 63, 65, 100; on WebGPU 63 and 100 are left out */
  readonly lengths?: readonly number[];
  readonly tolerance?: {
    /** relative RMS error of outputs and final state, default 1e-5 */
    readonly forward?: number;
    /** relative error of directional derivatives, default 1e-4 */
    readonly gradient?: number;
  };
  /** extreme inputs (gates at 100 and -100, decay 1 and near 0, huge logits); compared with naive, gradients must be finite */
  readonly hard?: readonly { readonly title: string; readonly inputs: () => Arrays64; readonly tolerance?: number }[];
  /** one per sentence of `card.degenerate`: throws when the equality does not hold; tensors are its own business */
  readonly degenerate?: readonly { readonly title: string; readonly run: () => void | Promise<void> }[];
  /** calls that must be refused, with the argument that the error names */
  readonly badInputs?: readonly { readonly title: string; readonly argument: string; readonly call: () => unknown }[];
  /** laws that cannot hold here, with the reason, which the skipped test shows */
  readonly leaveOut?: Partial<Readonly<Record<2 | 7 | 8 | 10 | 11, string>>>;
}

/** A form as an object, whichever way it was given. */
export function formOf(subject: OpSubject, name: string): OpForm {
  const form = subject.forms[name]!;
  return typeof form === 'function' ? { run: form } : form;
}

/** Lengths at which a form is tested. */
export function lengthsOf(subject: OpSubject, form: OpForm): readonly number[] {
  const lengths = form.lengths ?? subject.lengths ?? [1, 7, 63, 65, 100];
  // a GPU that the CPU plays takes 50 times as long
  if (tf.getBackend() !== 'webgpu') return lengths;
  const few = lengths.length > 3 ? lengths.filter((length) => length !== 63 && length !== 100) : lengths;
  return isSampling() && few.length > 2 ? few.slice(1) : few;
}

/** What the specification says at one length; the same for every form and backend, so it is computed once. */
export interface Truth {
  readonly inputs: Arrays64;
  readonly outputs: Arrays64;
  readonly cotangents: Arrays64;
  /** derivatives of the loss along random directions, by input */
  readonly derivatives: ReadonlyMap<string, readonly { direction: Float64Array; value: number }[]>;
}

const truths = new WeakMap<OpSubject, Map<number, Truth>>();

/** The specification's outputs and derivatives at a length, for loss = sum(outputs * cotangents). */
export function truthAt(subject: OpSubject, length: number): Truth {
  const known = truths.get(subject) ?? new Map<number, Truth>();
  truths.set(subject, known);
  const found = known.get(length);
  if (found) return found;
  const inputs = subject.inputs(length, 31 * length + 7);
  const outputs = subject.naive(inputs);
  const inLoss = subject.lossOutputs ?? Object.keys(outputs);
  const cotangents = Object.fromEntries(
    inLoss.flatMap((name, i) => (outputs[name] ? [[name, uniform64(outputs[name].shape, 900 + i)]] : [])),
  );
  const derivatives = new Map(
    subject.gradients.flatMap((name) => {
      const input = inputs[name];
      if (!input) return [];
      // the specification is slow at length, and one random direction misses hardly anything
      const along = (length <= 10 ? [1, 2] : [1]).map((seed) => {
        const direction = signs(input.data.length, randomStream(seed * 104729 + length));
        return { direction, value: directionalDerivative64(subject.naive, inputs, cotangents, name, direction) };
      });
      return [[name, along] as const];
    }),
  );
  const truth: Truth = { inputs, outputs, cotangents, derivatives };
  known.set(length, truth);
  return truth;
}

/** Makes the tensors of oracle inputs. */
export function tensorsOf(subject: OpSubject, inputs: Arrays64): Record<string, tf.Tensor | undefined> {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, array]) => [name, array && opTensor(array, subject.integers?.includes(name))]),
  );
}

/** A float32 or int32 tensor of an oracle array. */
export function opTensor(array: Array64, integer = false): tf.Tensor {
  return integer
    ? tf.tensor(Int32Array.from(array.data), [...array.shape], 'int32')
    : tf.tensor(Float32Array.from(array.data), [...array.shape]);
}

/** A float32 tensor of uniform random numbers in [low, high), owned by the caller. */
export function randomTensor(shape: readonly number[], seed: number, low = -1, high = 1): tf.Tensor {
  return opTensor(uniform64(shape, seed, low, high));
}

/** Frees tensors of a record, absent ones left out. */
export function disposeTensors(tensors: OpTensors): void {
  tf.dispose(Object.values(tensors).filter((tensor) => tensor !== undefined));
}
