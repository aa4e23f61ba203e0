import * as tf from '@tensorflow/tfjs-core';
import { describe, it } from 'vitest';
import { eachBackend } from '../backends.ts';
import { faultSweep } from '../fault.ts';
import { gradientsOf } from '../finite-difference.ts';
import { countTensors, leakFault } from '../leak.ts';
import { refusalFault } from './bad-input.ts';
import { checkFormGradients, checkFormOutputs, checkHardCase } from './form-parity.ts';
import { bitFault, fromTensor } from './host.ts';
import { holds, lawTitle } from './law.ts';
import type { Law } from './law.ts';
import { declareLaw } from './mixer-laws.ts';
import { disposeTensors, formOf, lengthsOf, tensorsOf, truthAt } from './op-subject.ts';
import type { OpSubject } from './op-subject.ts';

/** Law 8 for one form: it leaves only its outputs, owns them, keeps its inputs, and leaks nothing when it throws halfway. */
export async function checkOpLeaks(subject: OpSubject, name: string): Promise<void> {
  const form = formOf(subject, name);
  const lengths = lengthsOf(subject, form);
  const { inputs: arrays } = truthAt(subject, lengths.includes(7) ? 7 : lengths[0]!);
  const start = countTensors();
  const inputs = tensorsOf(subject, arrays);
  const given = new Set(Object.values(inputs).filter((tensor) => tensor !== undefined));
  const by = (form.gradients ?? subject.gradients).flatMap((input) => inputs[input] ?? []);
  const inLoss = subject.lossOutputs ?? form.outputs;
  const faults: (string | null)[] = [];
  const forward = (): tf.Tensor[] => Object.values(form.run(inputs)).filter((tensor) => tensor !== undefined);
  const backward = (): tf.Tensor[] => {
    const gradients = gradientsOf(() => {
      const outputs = Object.entries(form.run(inputs)).flatMap(([output, tensor]) =>
        tensor && (inLoss?.includes(output) ?? true) ? [tensor] : [],
      );
      return outputs.map((tensor) => tf.sum(tensor)).reduce((a, b) => tf.add(a, b));
    }, by);
    return gradients.filter((gradient) => gradient !== null);
  };
  for (const work of by.length > 0 ? [forward, backward] : [forward]) {
    tf.dispose(work().filter((tensor) => !given.has(tensor)));
    const before = countTensors();
    const made = work();
    const extra = tf.memory().numTensors - before.tensors - new Set(made).size;
    if (extra !== 0) faults.push(`${work.name} made ${extra} tensors more than it returned`);
    if (made.some((tensor) => given.has(tensor))) faults.push(`${work.name} returned one of its inputs; clone it`);
    tf.dispose(made.filter((tensor) => !given.has(tensor)));
    faults.push(leakFault(before, work.name));
    // work that is at fault already would free the inputs or drown the message
    if (!faults.some((fault) => fault !== null)) faults.push(...faultSweep(work, 8));
  }
  for (const [input, tensor] of Object.entries(inputs)) {
    if (!tensor) continue;
    if (tensor.isDisposed) faults.push(`the input ${input} was disposed`);
    else
      faults.push(
        bitFault(`the input ${input} afterwards`, await fromTensor(tensor), {
          ...arrays[input]!,
          data: Float32Array.from(arrays[input]!.data),
        }),
      );
  }
  disposeTensors(inputs);
  faults.push(leakFault(start, 'the whole test'));
  holds(faults);
}

/** Law 2: the suite covers what the card promises. */
export function checkCoverage(subject: OpSubject): void {
  const { forms, degenerate } = subject.card;
  const missing = forms.filter((form) => form !== 'naive' && !Object.hasOwn(subject.forms, form));
  const tested = subject.degenerate?.length ?? 0;
  holds([
    missing.length > 0 ? `the card's forms ${missing.join(', ')} are not tested` : null,
    tested < degenerate.length ? `the card states ${degenerate.length} degenerate equalities, ${tested} are tested` : null,
  ]);
}

/** Every law of an op, one entry per test. */
export function opLawList(subject: OpSubject): Law<OpSubject>[] {
  const names = Object.keys(subject.forms);
  // a sampling run takes every form's outputs, and of the first one the rest
  const perForm = names.flatMap((name, place): Law<OpSubject>[] => [
    { number: 2, title: `${name} equals naive: outputs and final state`, check: (given) => checkFormOutputs(given, name) },
    {
      number: 2,
      title: `${name} equals naive: gradients`,
      sampled: place === 0,
      applies: (given) => ((formOf(given, name).gradients ?? given.gradients).length > 0 ? true : 'this form only infers'),
      check: (given) => checkFormGradients(given, name),
    },
    {
      number: 8,
      title: `${name} leaks nothing, also when it throws halfway, and keeps its inputs`,
      sampled: false,
      check: (given) => checkOpLeaks(given, name),
    },
    ...(subject.hard ?? []).map((hard): Law<OpSubject> => ({
      number: 10,
      title: `${name} at ${hard.title}`,
      sampled: place === 0,
      check: (given) => checkHardCase(given, name, hard),
    })),
  ]);
  const degenerate = (subject.degenerate ?? []).map(({ title, run }): Law<OpSubject> => ({
    number: 7,
    title,
    sampled: false,
    check: async () => {
      await run();
    },
  }));
  const bad = (subject.badInputs ?? []).map(({ title, argument, call }): Law<OpSubject> => ({
    number: 11,
    title: `${title} is refused`,
    check: async (given) => holds([refusalFault(title, given.card.id, argument, call)]),
  }));
  return [...perForm, ...degenerate, ...bad];
}

/**
 * Declares the laws of an op as tests, on every backend: form parity against the specification in double precision, degenerate
 * equalities, leaks, hard numerics, bad input.
 *
 * @param subject one call per notable variant (normalised or not, with a state or without)
 */
export function opLaws(subject: OpSubject): void {
  describe(`laws of the op ${subject.name ?? subject.card.id}`, () => {
    it(`law ${lawTitle(2, 'every form and degenerate equality of the card is tested')}`, () => checkCoverage(subject));
    eachBackend(() => {
      for (const law of opLawList(subject)) declareLaw(law, subject, subject.leaveOut?.[law.number as 2]);
    }, 'op');
  });
}
