import * as tf from '@tensorflow/tfjs-core';
import { readSafetensors } from '@seqloom/core';
import { afterAll, describe, it } from 'vitest';
import { eachBackend, isSampling } from './backends.ts';
import { closenessFault, compareNumbers } from './closeness.ts';
import type { HostNumbers } from './closeness.ts';
import { gradientsOf } from './finite-difference.ts';
import { holds, lawTitle } from './laws/law.ts';
import { inFolder, nodeFiles, testPlace } from './place.ts';
import { goldenBounds } from './tolerances.ts';

/** One tensor of a golden file. */
export interface GoldenTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array;
}

type GoldenTensors = Readonly<Record<string, GoldenTensor>>;

/** One golden file: what the original code was given and what it returned. */
export interface GoldenCase {
  readonly op: string;
  readonly name: string;
  readonly inputs: GoldenTensors;
  readonly parameters: GoldenTensors;
  readonly buffers: GoldenTensors;
  readonly outputs: GoldenTensors;
  /** weights of the outputs in the loss */
  readonly cotangents: GoldenTensors;
  /** gradients of the loss by input or parameter name */
  readonly gradients: GoldenTensors;
  /** outputs in the loss */
  readonly lossTerms: readonly string[];
  /** settings of the case, from the metadata */
  readonly config: Readonly<Record<string, unknown>>;
  readonly metadata: Readonly<Record<string, string>>;
}

const ENDING = '.safetensors';

/** Reads a golden file, in Node. */
export function readGolden(file: string | URL): GoldenCase {
  return parseGolden(nodeFiles().readFileSync(file), String(file));
}

/** The golden case that these bytes hold; `path` names it in errors. */
function parseGolden(bytes: Uint8Array, path: string): GoldenCase {
  const { tensors, metadata } = readSafetensors(bytes);
  const part = (prefix: string): GoldenTensors =>
    Object.fromEntries(
      Object.entries(tensors)
        .filter(([name]) => name.startsWith(`${prefix}.`))
        .map(([name, { shape, data }]) => {
          if (!(data instanceof Float32Array || data instanceof Int32Array)) throw new Error(`${path}: ${name} is neither F32 nor I32`);
          return [name.slice(prefix.length + 1), { shape, data }];
        }),
    );
  return {
    op: metadata.op ?? '',
    name: metadata.case ?? path.split(/[\\/]/).at(-1)!.replace(ENDING, ''),
    inputs: part('in'),
    parameters: part('param'),
    buffers: part('buffer'),
    outputs: part('out'),
    cotangents: part('cot'),
    gradients: part('grad'),
    lossTerms: (metadata.loss_terms ?? '').split(',').filter(Boolean),
    config: JSON.parse(metadata.config ?? '{}') as Record<string, unknown>,
    metadata,
  };
}

/** What `run` receives: the case's tensors on the current backend, which stay the suite's. */
export interface GoldenTensorsOf {
  readonly inputs: Readonly<Record<string, tf.Tensor>>;
  readonly parameters: Readonly<Record<string, tf.Tensor>>;
  readonly buffers: Readonly<Record<string, tf.Tensor>>;
}

/** An op to be compared with the original's vectors. */
export interface GoldenSubject {
  /** name of the golden folder, e.g. `linear-attn` */
  readonly op: string;
  /** stands in the title, default the op: name the form here when several run on the same vectors */
  readonly name?: string;
  /** folder that holds the cases, e.g. `new URL('../../golden/based/', import.meta.url)` */
  readonly folder: string | URL;
  /** cases by file name without ending, default all in the folder */
  readonly cases?: readonly string[];
  /** runs the op with tfjs ops (taped: gradients flow through it) and returns the outputs under their golden names and in their layout */
  readonly run: (tensors: GoldenTensorsOf, golden: GoldenCase) => Readonly<Record<string, tf.Tensor>>;
  /** outputs that are not compared, each with its reason */
  readonly ignoredOutputs?: Readonly<Record<string, string>>;
  /** inputs and parameters whose gradients are not compared, each with its reason; true: this op only infers */
  readonly ignoredGradients?: Readonly<Record<string, string>> | true;
}

/** Largest errors of one case. */
export interface GoldenResult {
  readonly faults: readonly string[];
  readonly forward: { readonly error: number; readonly name: string };
  readonly gradient: { readonly error: number; readonly name: string };
}

function tensorsFrom(tensors: GoldenTensors): Record<string, tf.Tensor> {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { shape, data }]) => [
      name,
      tf.tensor(data, [...shape], data instanceof Int32Array ? 'int32' : 'float32'),
    ]),
  );
}

/** Runs one golden case on the current backend: forward, and gradients of loss = sum over loss terms of sum(output * cotangent). */
export async function runGolden(subject: GoldenSubject, golden: GoldenCase): Promise<GoldenResult> {
  const bounds = goldenBounds(subject.op, golden.name, tf.getBackend());
  const given = { inputs: tensorsFrom(golden.inputs), parameters: tensorsFrom(golden.parameters), buffers: tensorsFrom(golden.buffers) };
  const faults: string[] = [];
  let forward = { error: 0, name: 'none' };
  let gradient = { error: 0, name: 'none' };
  try {
    const outputs = tf.tidy(() => subject.run(given, golden) as tf.NamedTensorMap);
    for (const [name, wanted] of Object.entries(golden.outputs)) {
      if (subject.ignoredOutputs && Object.hasOwn(subject.ignoredOutputs, name)) continue;
      const output = outputs[name];
      if (!output) {
        faults.push(`output ${name} is missing`);
        continue;
      }
      const host: HostNumbers = { shape: output.shape, data: await output.data() };
      const { rms } = compareNumbers(host, wanted);
      if (!(rms <= forward.error)) forward = { error: rms, name };
      const fault = closenessFault(`output ${name}`, host, wanted, { rms: bounds.forward });
      if (fault) faults.push(fault);
    }
    tf.dispose(outputs);
    if (subject.ignoredGradients !== true) {
      const checked = await gradientFaults(subject, golden, given, bounds.gradient);
      faults.push(...checked.faults);
      gradient = checked.gradient;
    }
  } finally {
    tf.dispose([given.inputs, given.parameters, given.buffers]);
  }
  return { faults, forward, gradient };
}

async function gradientFaults(
  subject: GoldenSubject,
  golden: GoldenCase,
  given: GoldenTensorsOf,
  bound: number,
): Promise<Pick<GoldenResult, 'gradient'> & { faults: string[] }> {
  const faults: string[] = [];
  let gradient = { error: 0, name: 'none' };
  const ignored = subject.ignoredGradients === true ? {} : (subject.ignoredGradients ?? {});
  const names = Object.keys(golden.gradients).filter((name) => !Object.hasOwn(ignored, name));
  const terms = golden.lossTerms.filter((name) => golden.cotangents[name]);
  if (names.length === 0 || terms.length === 0) return { faults, gradient };
  const cotangents = tensorsFrom(golden.cotangents);
  const gradients = gradientsOf(
    () => {
      const outputs = subject.run(given, golden);
      return terms.map((name) => tf.sum(tf.mul(outputs[name]!, cotangents[name]!))).reduce((a, b) => tf.add(a, b));
    },
    names.map((name) => given.inputs[name] ?? given.parameters[name]!),
  );
  // a gradient that is tiny beside the others is made of terms of their size, whose rounding errors it keeps
  const size = (data: ArrayLike<number>): number =>
    Math.sqrt(Array.from(data).reduce((sum, v) => sum + v * v, 0) / Math.max(1, data.length));
  const floor = Math.max(1e-6, 1e-4 * Math.max(...names.map((name) => size(golden.gradients[name]!.data))));
  for (const [index, name] of names.entries()) {
    const wanted = golden.gradients[name]!;
    const tensor = gradients[index];
    const host: HostNumbers = tensor
      ? { shape: tensor.shape, data: await tensor.data() }
      : { shape: wanted.shape, data: new Float32Array(wanted.data.length) };
    const { rms } = compareNumbers(host, wanted, floor);
    if (!(rms <= gradient.error)) gradient = { error: rms, name };
    const fault = closenessFault(`gradient of ${name}`, host, wanted, { rms: bound, floor });
    if (fault) faults.push(fault);
  }
  tf.dispose([cotangents, gradients.filter((tensor) => tensor !== null)]);
  return { faults, gradient };
}

/**
 * Declares golden parity (law 3) as tests, one per case and backend, and prints the worst errors of each backend.
 *
 * With the environment variable SEQLOOM_GOLDEN_REPORT set to a file, the errors are also appended there, one JSON object per line; the
 * folder above the vectors' own is taken for the mechanism's name.
 */
export function goldenSuite(subject: GoldenSubject): void {
  const { folder } = subject;
  const place = testPlace();
  const sizes = place.files(folder);
  const present = Object.keys(sizes).filter((file) => file.endsWith(ENDING));
  const cases = subject.cases ?? present.map((file) => file.replace(ENDING, '')).toSorted();
  const smallest = cases.toSorted((a, b) => sizes[a + ENDING]! - sizes[b + ENDING]!)[0]!;
  const title = subject.name ?? subject.op;
  describe(`golden vectors of ${title}`, () => {
    eachBackend((backend) => {
      const results: (GoldenResult & { name: string })[] = [];
      for (const name of isSampling() ? [smallest] : cases) {
        it(`law ${lawTitle(3, `${title}, case ${name}`)}`, async () => {
          const file = inFolder(folder, name + ENDING);
          const result = await runGolden(subject, parseGolden(await place.read(file), String(file)));
          results.push({ ...result, name });
          holds(result.faults);
        });
      }
      const mechanism = String(folder).split(/[\\/]/).filter(Boolean).at(-2) ?? '';
      afterAll(() => report(title, mechanism, backend, results));
    }, 'golden');
  });
}

function report(title: string, mechanism: string, backend: string, results: readonly (GoldenResult & { name: string })[]): void {
  if (results.length === 0) return;
  const worst = (kind: 'forward' | 'gradient'): string => {
    const most = results.reduce((a, b) => (b[kind].error > a[kind].error ? b : a));
    return `${kind} ${most[kind].error.toExponential(1)} (${most[kind].name}, ${most.name})`;
  };
  const place = testPlace();
  place.print(`golden ${title} on ${backend}: worst relative error ${worst('forward')}, ${worst('gradient')}; ${results.length} cases`);
  const file = place.environment.SEQLOOM_GOLDEN_REPORT;
  if (!file) return;
  for (const { name, forward, gradient } of results)
    nodeFiles().appendFileSync(file, `${JSON.stringify({ mechanism, op: title, case: name, backend, forward, gradient })}\n`);
}
