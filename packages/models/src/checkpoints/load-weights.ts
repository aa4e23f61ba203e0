import * as tf from '@tensorflow/tfjs-core';
import { encodeBf16, encodeF16, fail, toFloat32 } from '@seqloom/core';
import type { Module, Parameter, SafeTensor, TensorReader } from '@seqloom/core';
import type { Mapping } from './adapter.ts';
import { planMapping } from './mapping.ts';
import type { Group } from './mapping.ts';
import type { PretrainedProgress } from './repository.ts';
import type { LaidTensor } from './transform.ts';

/** Numbers that weights are rounded to while they load; they are held as float32 either way. */
export type LoadDtype = 'F32' | 'BF16' | 'F16';

/** What became of every tensor of a checkpoint and every parameter of a model. */
export interface LoadReport {
  /** checkpoint tensors that were wanted and are not there, and parameters that no tensor is for */
  readonly missing: readonly string[];
  /** checkpoint tensors that nothing is made of */
  readonly unexpected: readonly string[];
  readonly wrongShape: readonly { readonly name: string; readonly wanted: readonly number[]; readonly given: readonly number[] }[];
  /** checkpoint tensors that repeat a tied one */
  readonly tied: readonly string[];
  readonly ignored: readonly string[];
  /** number of checkpoint tensors by stored type */
  readonly dtypes: Readonly<Record<string, number>>;
  /** learned numbers that were loaded */
  readonly parameters: number;
}

/** What `loadWeights` takes beside model, tensors and mapping. */
export interface LoadWeightsOptions {
  /** what to call the checkpoint in an error */
  readonly label: string;
  /** throw unless every tensor and every parameter is accounted for, default true */
  readonly strict?: boolean;
  readonly dtype?: LoadDtype;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: PretrainedProgress) => void) | undefined;
}

const mechanism = 'checkpoint';

/**
 * Loads a checkpoint into a model, tensor by tensor: beside the model, memory is that of the tensors of one group.
 *
 * Names and shapes are all checked before the first weight is read.
 *
 * @param depth layers of the model
 * @returns what was loaded, and with `strict: false` what was not
 * @throws SeqLoomError when tensors are missing, unexpected or of a wrong shape (strict), not finite, or tied ones differ
 */
export async function loadWeights(
  model: Module,
  depth: number,
  reader: TensorReader,
  mapping: Mapping,
  options: LoadWeightsOptions,
): Promise<LoadReport> {
  const { label, strict = true, dtype = 'F32', signal, onProgress } = options;
  const parameters = model.namedParameters();
  const plan = planMapping(mapping, new Map([...parameters].map(([name, { shape }]) => [name, shape])), depth);
  const ties = new Map((mapping.tied ?? []).map(({ hub, of }) => [hub, of]));
  const wanted = new Set(plan.groups.flatMap(({ hub }) => hub));
  const others = [...reader.tensors.keys()].filter((name) => !wanted.has(name) && !ties.has(name));
  const ignored = others.filter((name) => mapping.ignore?.some((pattern) => pattern.test(name)));
  const wrong = plan.groups.flatMap(({ hub, shapes }) =>
    hub.flatMap((name, place) => {
      const info = reader.tensors.get(name);
      if (!info || tf.util.arraysEqual([...info.shape], [...shapes[place]!])) return [];
      return [{ name, wanted: shapes[place]!, given: info.shape }];
    }),
  );
  const report = {
    missing: [
      ...[...wanted].filter((name) => !reader.tensors.has(name)),
      ...plan.without.map((name) => `${name} (a parameter of the model)`),
    ],
    unexpected: others.filter((name) => !ignored.includes(name)),
    wrongShape: wrong,
    tied: [...ties.keys()].filter((name) => reader.tensors.has(name)),
    ignored,
    dtypes: countDtypes(reader, wanted),
  };
  if (strict) checkReport(report, label);

  const bad = new Set(wrong.map(({ name }) => name));
  const whole = plan.groups.filter(({ hub }) => hub.every((name) => reader.tensors.has(name) && !bad.has(name)));
  const groupOf = new Map(whole.flatMap((group) => group.hub.map((name) => [name, group] as const)));
  const total = [...groupOf.keys()].reduce((sum, name) => sum + reader.tensors.get(name)!.byteLength, 0);
  const waiting = new Map<Group, Map<string, SafeTensor>>();
  let done = 0;
  for await (const [name, tensor] of reader) {
    signal?.throwIfAborted();
    const group = groupOf.get(name);
    if (!group) continue;
    const parts = waiting.get(group) ?? new Map<string, SafeTensor>();
    waiting.set(group, parts.set(name, tensor));
    done += reader.tensors.get(name)!.byteLength;
    if (parts.size === group.hub.length) {
      waiting.delete(group);
      const laid = group.hub.map((part): LaidTensor => {
        const stored = parts.get(part)!;
        return { shape: stored.shape, data: readNumbers(part, stored, dtype, label) };
      });
      const made = group.transform.forward(laid);
      for (const [place, own] of group.own.entries()) assign(parameters.get(own)!, made[place]!);
    }
    onProgress?.({ phase: 'load', name, done, total });
  }
  await checkTies(reader, ties, label);
  const loaded = new Set(whole.flatMap(({ own }) => own));
  return { ...report, parameters: [...loaded].reduce((sum, name) => sum + parameters.get(name)!.size, 0) };
}

function assign(parameter: Parameter, { shape, data }: LaidTensor): void {
  const value = tf.tensor(data!, [...shape], 'float32');
  try {
    parameter.assign(value);
  } finally {
    value.dispose();
  }
}

function readNumbers(name: string, tensor: SafeTensor, dtype: LoadDtype, label: string): Float32Array {
  const data = toFloat32(tensor);
  // an exponent of ones, which NaN and infinity have alone, carries into the sign: a loop without a branch
  const words = new Int32Array(data.buffer, data.byteOffset, data.length);
  let signs = 0;
  for (let i = 0; i < words.length; i++) signs |= (words[i]! & 0x7f800000) + 0x00800000;
  if (signs < 0) {
    const bad = data.findIndex((value) => !Number.isFinite(value));
    const remedy = 'The checkpoint is damaged or its training diverged: fetch another.';
    fail({ mechanism, argument: `${label} ${name}`, wanted: 'finite', given: `${data[bad]} at index ${bad}`, remedy });
  }
  return dtype === 'F32' || tensor.dtype === dtype ? data : roundTo(dtype, data);
}

function roundTo(dtype: 'BF16' | 'F16', data: Float32Array): Float32Array {
  const encode = dtype === 'BF16' ? encodeBf16 : encodeF16;
  return toFloat32({ dtype, shape: [data.length], data: Uint16Array.from(data, encode) });
}

/** Two names of one tensor: a file that holds both must hold the same numbers. */
async function checkTies(reader: TensorReader, ties: ReadonlyMap<string, string>, label: string): Promise<void> {
  for (const [name, of] of ties) {
    if (!reader.tensors.has(name) || !reader.tensors.has(of)) continue;
    const [copy, first] = [toFloat32(await reader.tensor(name)), toFloat32(await reader.tensor(of))];
    const differs = copy.length === first.length ? copy.findIndex((value, i) => !Object.is(value, first[i])) : 0;
    if (differs >= 0) {
      fail({
        mechanism,
        argument: `${label} ${name}`,
        wanted: `equal to ${of}, since config.json ties them`,
        given: `other numbers from index ${differs}`,
        remedy: 'Set tie_word_embeddings to false in config.json if the head is its own.',
      });
    }
  }
}

function countDtypes(reader: TensorReader, wanted: ReadonlySet<string>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { name, dtype } of reader.tensors.values()) if (wanted.has(name)) counts[dtype] = (counts[dtype] ?? 0) + 1;
  return counts;
}

/** Throws when anything is unaccounted for, with the first twenty names of each kind. */
function checkReport({ missing, unexpected, wrongShape }: Omit<LoadReport, 'parameters'>, label: string): void {
  const shapes = wrongShape.map(({ name, wanted, given }) => `${name} [${given.join(', ')}] instead of [${wanted.join(', ')}]`);
  const found = [listed('missing', missing), listed('unexpected', unexpected), listed('wrong shape', shapes)].filter(Boolean);
  if (found.length === 0) return;
  fail({
    mechanism,
    argument: `${label} weights`,
    wanted: 'the tensors that its config.json describes',
    given: found.join('; '),
    remedy: 'Fetch config and weights of the same revision, or pass strict: false for a report.',
  });
}

function listed(kind: string, names: readonly string[]): string {
  if (names.length === 0) return '';
  const more = names.length > 20 ? ` and ${names.length - 20} more` : '';
  return `${names.length} ${kind}: ${names.slice(0, 20).join(', ')}${more}`;
}
