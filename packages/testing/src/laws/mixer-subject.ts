import * as tf from '@tensorflow/tfjs-core';
import { disposeState } from '@seqloom/core';
import type { MechanismCard, MixerOptions, SequenceMixer, State } from '@seqloom/core';
import { closenessFault } from '../closeness.ts';
import type { LawNumber } from './law.ts';
import { fromTensor, randomArray, toTensor } from './host.ts';
import type { HostArray } from './host.ts';

/** A mixer, and what the laws must know to test it. */
export interface MixerSubject {
  readonly card: MechanismCard;
  /** stands in the suite's title, default the card's id; name the variant here */
  readonly name?: string;
  /** builds a new mixer, always with the same weights; tiny dimensions keep the laws fast */
  readonly build: () => SequenceMixer;
  /** dimensions for `card.stateBytes`; without them the card's formula is not checked */
  readonly dims?: Readonly<Record<string, number>>;
  /** rows of the test batch, at least 2; default 2 */
  readonly batch?: number;
  /** tokens of the test sequence, at least 6; default 11 */
  readonly length?: number;
  /** the other sequence of a cross pattern: tokens (at least 3) and width */
  readonly context?: { readonly length: number; readonly dim: number };
  readonly tolerance?: {
    /** relative RMS error between two ways of computing the same, default 1e-5 */
    readonly forward?: number;
    /** relative error of directional derivatives in float32, default 2e-3 */
    readonly gradient?: number;
    /** how much outputs may change that must not change at all, relative, default 1e-6 */
    readonly independence?: number;
  };
  /** step of the finite differences, default 1e-2; smaller where the mixer has kinks */
  readonly gradientStep?: number;
  /** parameters that may have a zero gradient at the start, by dotted name, each with its reason in the card's deviations */
  readonly unusedParameters?: readonly string[];
  /** what else the constructor must refuse; the argument is the one that the error names */
  readonly badConfigs?: readonly { readonly build: () => unknown; readonly argument: string }[];
  /** laws that cannot hold here, with the reason, which the skipped test shows */
  readonly leaveOut?: Partial<Readonly<Record<LawNumber, string>>>;
}

/** The sizes of a subject with defaults filled in. */
export function sizes(subject: MixerSubject): { batch: number; length: number } {
  return { batch: subject.batch ?? 2, length: subject.length ?? 11 };
}

/** Runs work with a new mixer, and frees the mixer whatever happens. */
export async function withMixer<T>(subject: MixerSubject, work: (mixer: SequenceMixer) => Promise<T>): Promise<T> {
  const mixer = subject.build();
  try {
    return await work(mixer);
  } finally {
    mixer.dispose();
  }
}

/** A call's input on the host. */
export interface HostInput {
  readonly x: HostArray;
  readonly mask?: HostArray | undefined;
  readonly context?: HostArray | undefined;
  readonly contextMask?: HostArray | undefined;
}

/** A call's result on the host. */
export interface HostResult {
  readonly output: HostArray;
  readonly state: Readonly<Record<string, HostArray>>;
}

/** Random input of a subject. */
export function randomInput(subject: MixerSubject, dim: number, batch: number, length: number, seed: number, scale = 1): HostInput {
  const x = randomArray([batch, length, dim], seed, scale);
  return { x, context: randomContext(subject, batch, seed + 1, scale) };
}

/** Random context of a subject, undefined for self patterns. */
export function randomContext(subject: MixerSubject, batch: number, seed: number, scale = 1): HostArray | undefined {
  return subject.context ? randomArray([batch, subject.context.length, subject.context.dim], seed, scale) : undefined;
}

/** Makes the tensors of a call. */
export function optionsOf(input: HostInput, state?: State): MixerOptions {
  return {
    ...(state ? { state } : {}),
    ...(input.mask ? { mask: toTensor(input.mask) } : {}),
    ...(input.context ? { context: toTensor(input.context) } : {}),
    ...(input.contextMask ? { contextMask: toTensor(input.contextMask) } : {}),
  };
}

/** One forward; the output comes to the host, the new state stays a tensor record that the caller owns. */
export async function feed(mixer: SequenceMixer, input: HostInput, state?: State): Promise<{ output: HostArray; state: State }> {
  const x = toTensor(input.x);
  const options = optionsOf(input);
  try {
    const result = mixer.forward(x, state ? { ...options, state } : options);
    const output = await fromTensor(result.output);
    result.output.dispose();
    return { output, state: result.state };
  } finally {
    tf.dispose([x, options as tf.TensorContainer]);
  }
}

/** Feeds pieces one after the other, each with the state that the one before returned; everything comes to the host. */
export async function feedAll(mixer: SequenceMixer, pieces: readonly HostInput[]): Promise<HostResult & { outputs: HostArray[] }> {
  let state: State | undefined;
  const outputs: HostArray[] = [];
  for (const piece of pieces) {
    const step = await feed(mixer, piece, state);
    if (state) disposeState(state);
    state = step.state;
    outputs.push(step.output);
  }
  const host = await readState(state!);
  disposeState(state!);
  return { output: outputs.at(-1)!, outputs, state: host };
}

/** Copies a state to the host. */
export async function readState(state: State): Promise<Record<string, HostArray>> {
  const entries: [string, HostArray][] = [];
  for (const [name, tensor] of Object.entries(state)) entries.push([name, await fromTensor(tensor)]);
  return Object.fromEntries(entries);
}

/** Faults between two states on the host. */
export function stateFaults(
  label: string,
  given: Readonly<Record<string, HostArray>>,
  wanted: Readonly<Record<string, HostArray>>,
  rms: number,
): (string | null)[] {
  const names = Object.keys(wanted).toSorted();
  if (Object.keys(given).toSorted().join() !== names.join()) {
    return [`${label}: state has ${Object.keys(given).join(', ')}, expected ${names.join(', ')}`];
  }
  return names.map((name) => closenessFault(`${label}: state.${name}`, given[name]!, wanted[name]!, { rms }));
}

/** True when the pattern looks at past tokens only. */
export function isCausal(mixer: SequenceMixer): boolean {
  return mixer.pattern.startsWith('causal');
}

/** True when a sequence may be fed in pieces: all patterns but noncausal-self, where every token sees the later ones. */
export function canSplit(mixer: SequenceMixer): boolean {
  return mixer.pattern !== 'noncausal-self';
}

/** The pattern of a subject, without keeping the mixer. */
export function patternOf(subject: MixerSubject): SequenceMixer['pattern'] {
  const mixer = subject.build();
  const { pattern } = mixer;
  mixer.dispose();
  return pattern;
}

/** `applies` of laws that need a sequence to be fed in pieces. */
export function needsPieces(subject: MixerSubject): true | string {
  return patternOf(subject) === 'noncausal-self' ? 'a noncausal-self mixer sees the whole sequence at once' : true;
}
