import * as tf from '@tensorflow/tfjs-core';
import { closenessFault, toHost } from '../closeness.ts';
import { gradientsOf } from '../finite-difference.ts';
import { finiteFault, fromTensor } from './host.ts';
import { holds } from './law.ts';
import { disposeTensors, formOf, lengthsOf, opTensor, tensorsOf, truthAt } from './op-subject.ts';
import type { OpForm, OpSubject, OpTensors } from './op-subject.ts';
import type { Arrays64 } from '../oracle/array64.ts';

/** Compares a form's outputs with the specification's; frees them. */
async function outputFaults(label: string, form: OpForm, inputs: OpTensors, wanted: Arrays64, rms: number): Promise<(string | null)[]> {
  const outputs = tf.tidy(() => form.run(inputs) as tf.NamedTensorMap);
  const faults: (string | null)[] = [];
  for (const name of form.outputs ?? Object.keys(wanted)) {
    const given = outputs[name];
    const expected = wanted[name];
    if (!expected) continue;
    faults.push(given ? closenessFault(`${label}: ${name}`, await toHost(given), expected, { rms }) : `${label}: ${name} is missing`);
  }
  disposeTensors(outputs);
  return faults;
}

/** Law 2: a form's outputs and final state equal the specification's at every length. */
export async function checkFormOutputs(subject: OpSubject, name: string): Promise<void> {
  const form = formOf(subject, name);
  const faults: (string | null)[] = [];
  for (const length of lengthsOf(subject, form)) {
    const truth = truthAt(subject, length);
    const inputs = tensorsOf(subject, truth.inputs);
    faults.push(...(await outputFaults(`T = ${length}`, form, inputs, truth.outputs, subject.tolerance?.forward ?? 1e-5)));
    disposeTensors(inputs);
  }
  holds(faults);
}

/** Gradients of `sum(outputs * cotangents)` of a form, on the host. */
async function formGradients(
  form: OpForm,
  inputs: OpTensors,
  cotangents: Arrays64,
  by: readonly string[],
): Promise<Map<string, Float32Array>> {
  const gradients = gradientsOf(
    () => {
      const outputs = form.run(inputs);
      const terms = Object.entries(cotangents).flatMap(([name, cotangent]) =>
        outputs[name] && cotangent ? [tf.sum(tf.mul(outputs[name], opTensor(cotangent)))] : [],
      );
      return terms.reduce((a, b) => tf.add(a, b));
    },
    by.map((name) => inputs[name]!),
  );
  const host = new Map<string, Float32Array>();
  for (const [index, name] of by.entries()) {
    const gradient = gradients[index];
    if (gradient) host.set(name, (await fromTensor(gradient)).data);
    gradient?.dispose();
  }
  return host;
}

/**
 * Law 2: a form's gradients equal central differences of the specification along random directions.
 *
 * Along a direction of +1 and -1 a gradient g has a derivative of the order of its norm, so errors are measured by that norm (not less
 * than 1e-4 per element, below which float32 sums of terms of order one have no digits left).
 */
export async function checkFormGradients(subject: OpSubject, name: string): Promise<void> {
  const form = formOf(subject, name);
  const tolerance = subject.tolerance?.gradient ?? 1e-4;
  const faults: (string | null)[] = [];
  for (const length of lengthsOf(subject, form)) {
    const { inputs: arrays, cotangents, derivatives } = truthAt(subject, length);
    const inputs = tensorsOf(subject, arrays);
    const by = (form.gradients ?? subject.gradients).filter((input) => inputs[input]);
    const used = form.outputs
      ? Object.fromEntries(Object.entries(cotangents).filter(([output]) => form.outputs!.includes(output)))
      : cotangents;
    if (Object.keys(used).length < Object.keys(cotangents).length)
      faults.push(`T = ${length}: a form with gradients must give every output of the loss`);
    const gradients = await formGradients(form, inputs, used, by);
    for (const input of by) {
      const gradient = gradients.get(input);
      const label = `T = ${length}: gradient of ${input}`;
      if (!gradient) {
        const unused = derivatives.get(input)!.every(({ value }) => Math.abs(value) < 1e-7);
        if (!unused) faults.push(`${label} is missing`);
        continue;
      }
      faults.push(finiteFault(label, gradient));
      const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
      const size = Math.max(norm, 1e-4 * Math.sqrt(gradient.length));
      for (const { direction, value } of derivatives.get(input)!) {
        const analytic = gradient.reduce((sum, g, i) => sum + g * direction[i]!, 0);
        const off = Math.abs(analytic - value) / size;
        if (!(off <= tolerance)) {
          faults.push(
            `${label} along a random direction is ${analytic}, naive has ${value} (relative error ${off.toExponential(2)}, bound ${tolerance})`,
          );
        }
      }
    }
    disposeTensors(inputs);
  }
  holds(faults);
}

/** Law 10: at extreme inputs a form equals the specification, and its gradients are finite. */
export async function checkHardCase(subject: OpSubject, name: string, hard: NonNullable<OpSubject['hard']>[number]): Promise<void> {
  const form = formOf(subject, name);
  const arrays = hard.inputs();
  const wanted = subject.naive(arrays);
  const inputs = tensorsOf(subject, arrays);
  const rms = hard.tolerance ?? subject.tolerance?.forward ?? 1e-5;
  const faults = await outputFaults(hard.title, form, inputs, wanted, rms);
  const by = (form.gradients ?? subject.gradients).filter((input) => inputs[input]);
  if (by.length > 0) {
    const inLoss = subject.lossOutputs ?? Object.keys(wanted);
    const ones = Object.fromEntries(
      inLoss.flatMap((output) =>
        wanted[output] ? [[output, { shape: wanted[output].shape, data: new Float64Array(wanted[output].data.length).fill(1) }]] : [],
      ),
    );
    for (const [input, gradient] of await formGradients(form, inputs, ones, by)) {
      faults.push(finiteFault(`${hard.title}: gradient of ${input}`, gradient));
    }
  }
  disposeTensors(inputs);
  holds(faults);
}
