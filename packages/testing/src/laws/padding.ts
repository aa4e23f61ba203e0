import * as tf from '@tensorflow/tfjs-core';
import { disposeState } from '@seqloom/core';
import type { SequenceMixer, State, StateShapes } from '@seqloom/core';
import { isSampling } from '../backends.ts';
import { closenessFault } from '../closeness.ts';
import { gradientsOf } from '../finite-difference.ts';
import { poisonMasked } from '../poison.ts';
import { holds } from './law.ts';
import type { Law } from './law.ts';
import { finiteFault, fromTensor, pickTokens, randomArray, rowOf, toTensor } from './host.ts';
import type { HostArray } from './host.ts';
import { canSplit, feed, feedAll, optionsOf, randomContext, readState, sizes, withMixer } from './mixer-subject.ts';
import type { HostInput, MixerSubject } from './mixer-subject.ts';

/** Tokens of each row that are valid: a full row, a shorter one, a single token, none at all. */
function validTokens(kind: 'right' | 'left' | 'scattered', length: number): number[][] {
  const counts = [length, length - 4, 1, 0];
  const all = Array.from({ length }, (_, t) => t);
  if (kind === 'right') return counts.map((count) => all.slice(0, count));
  if (kind === 'left') return counts.map((count) => all.slice(length - count));
  return [all, all.filter((t) => t % 3 !== 1), [Math.floor(length / 2)], []];
}

/** The mask [B, T] of these tokens. */
function maskOf(valid: readonly (readonly number[])[], length: number): HostArray {
  const data = new Float32Array(valid.length * length);
  for (const [b, tokens] of valid.entries()) for (const t of tokens) data[b * length + t] = 1;
  return { shape: [valid.length, length], data };
}

/** Contexts padded on the right with NaN, and each row's own without padding. */
function paddedContext(subject: MixerSubject, rows: number): { padded?: HostArray; mask?: HostArray; own: (HostArray | undefined)[] } {
  const context = randomContext(subject, rows, 407);
  if (!context) return { own: Array.from({ length: rows }, () => undefined) };
  const length = context.shape[1]!;
  const valid = Array.from({ length: rows }, (_, b) => Array.from({ length: Math.max(1, length - b) }, (__, t) => t));
  const mask = maskOf(valid, length);
  const data = poisonMasked(context.data, context.shape, [...mask.data]);
  return { padded: { shape: context.shape, data }, mask, own: valid.map((tokens, b) => pickTokens(rowOf(context, b), tokens)) };
}

/** Compares the state of a padded row with the unpadded row's; growing tensors hold zeros in front of the row's own part. */
function rowStateFaults(
  label: string,
  batch: Readonly<Record<string, HostArray>>,
  row: number,
  alone: Readonly<Record<string, HostArray>>,
  shapes: StateShapes,
  rms: number,
): (string | null)[] {
  return Object.entries(alone).map(([name, wanted]) => {
    const given = rowOf(batch[name]!, row);
    const axis = (shapes[name] ?? []).indexOf('length');
    if (axis < 0) return closenessFault(`${label}: state.${name}`, given, wanted, { rms });
    const outer = given.shape.slice(0, axis).reduce((n, e) => n * e, 1);
    const inner = given.shape.slice(axis + 1).reduce((n, e) => n * e, 1);
    const [have, own] = [given.shape[axis]!, wanted.shape[axis]!];
    if (have < own) return `${label}: state.${name} keeps ${have} tokens, expected at least ${own}`;
    const trailing = new Float32Array(outer * own * inner);
    for (let o = 0; o < outer; o++) {
      const start = o * have * inner;
      const front = given.data.subarray(start, start + (have - own) * inner);
      const stray = front.findIndex((value) => value !== 0);
      if (stray >= 0) return `${label}: state.${name} holds ${front[stray]} in front of the row's own ${own} tokens, expected 0`;
      trailing.set(given.data.subarray(start + (have - own) * inner, start + have * inner), o * own * inner);
    }
    return closenessFault(`${label}: state.${name}`, { shape: wanted.shape, data: trailing }, wanted, { rms });
  });
}

/** Law 6: padding that holds NaN, on either side or between, gives each row what it gets alone; continuing does too. */
export const paddingLaw: Law<MixerSubject> = {
  number: 6,
  title: 'rows padded left, right or between, with NaN, get the outputs and the state of the unpadded row',
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { length } = sizes(subject);
      const rms = subject.tolerance?.forward ?? 1e-5;
      const rows = 4;
      const pieces = canSplit(mixer);
      const before = randomArray([rows, 3, mixer.dim], 401);
      const x = randomArray([rows, length, mixer.dim], 402);
      const after = randomArray([rows, 2, mixer.dim], 403);
      const context = paddedContext(subject, rows);
      const faults: (string | null)[] = [];
      for (const kind of isSampling() ? (['left'] as const) : (['right', 'left', 'scattered'] as const)) {
        const valid = validTokens(kind, length);
        const mask = maskOf(valid, length);
        const poisoned = { shape: x.shape, data: poisonMasked(x.data, x.shape, [...mask.data]) };
        const side = { context: context.padded, contextMask: context.mask };
        const middle = { x: poisoned, mask, ...side };
        const all = await feedAll(mixer, pieces ? [{ x: before, ...side }, middle, { x: after, ...side }] : [middle]);
        const outputs = all.outputs[pieces ? 1 : 0]!;
        for (let b = 0; b < rows; b++) {
          const label = `${kind} padding, row ${b}`;
          const row = rowOf(outputs, b);
          const padded = Array.from({ length }, (_, t) => t).filter((t) => !valid[b]!.includes(t));
          const stray = pickTokens(row, padded).data.find((value) => value !== 0);
          if (stray !== undefined) faults.push(`${label}: the output at padding holds ${stray}, expected 0`);
          const own = { context: context.own[b] };
          const steps: HostInput[] = pieces ? [{ x: rowOf(before, b), ...own }] : [];
          if (valid[b]!.length > 0) steps.push({ x: pickTokens(rowOf(x, b), valid[b]!), ...own });
          if (pieces) steps.push({ x: rowOf(after, b), ...own });
          if (steps.length === 0) continue;
          const alone = await feedAll(mixer, steps);
          if (valid[b]!.length > 0) {
            faults.push(closenessFault(`${label}: output`, pickTokens(row, valid[b]!), alone.outputs[pieces ? 1 : 0]!, { rms }));
          }
          if (pieces) faults.push(closenessFault(`${label}: output of the next piece`, rowOf(all.output, b), alone.output, { rms }));
          faults.push(...rowStateFaults(label, all.state, b, alone.state, mixer.stateShapes(rows), rms));
        }
      }
      holds(faults);
    }),
};

/** Law 6: inside a composite mixer padding on the right holds arbitrary finite numbers, which must not matter either. */
export const junkPaddingLaw: Law<MixerSubject> = {
  number: 6,
  sampled: false,
  title: 'arbitrary numbers at right padding, as a composite mixer hands them on, change nothing',
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { length } = sizes(subject);
      const rms = subject.tolerance?.forward ?? 1e-5;
      const rows = 4;
      const valid = validTokens('right', length);
      const mask = maskOf(valid, length);
      const x = randomArray([rows, length, mixer.dim], 411);
      const context = randomContext(subject, rows, 412);
      const clean = await feed(mixer, { x: { shape: x.shape, data: poisonMasked(x.data, x.shape, [...mask.data]) }, mask, context });
      const cleanState = await readState(clean.state);
      disposeState(clean.state);
      const junk = { shape: x.shape, data: poisonMasked(x.data, x.shape, [...mask.data], 1e3) };
      const mixed = await mixDirectly(mixer, junk, mask, valid, context);
      const faults: (string | null)[] = [];
      for (const [b, tokens] of valid.entries()) {
        if (tokens.length === 0) continue;
        const label = `row ${b} with junk at padding`;
        faults.push(
          closenessFault(`${label}: output`, pickTokens(rowOf(mixed.output, b), tokens), pickTokens(rowOf(clean.output, b), tokens), {
            rms,
          }),
        );
      }
      for (const [name, wanted] of Object.entries(cleanState)) {
        faults.push(closenessFault(`state.${name} with junk at padding`, mixed.state[name]!, wanted, { rms }));
      }
      holds(faults);
    }),
};

async function mixDirectly(
  mixer: SequenceMixer,
  x: HostArray,
  mask: HostArray,
  valid: readonly (readonly number[])[],
  context: HostArray | undefined,
): Promise<{ output: HostArray; state: Record<string, HostArray> }> {
  const result = tf.tidy(() => {
    const { output, state } = mixer.mix({
      x: toTensor<tf.Tensor3D>(x),
      state: mixer.initialState(x.shape[0]!),
      valid: toTensor<tf.Tensor2D>(mask),
      lengths: tf.tensor1d(valid.map((tokens) => tokens.length)),
      context: context ? toTensor<tf.Tensor3D>(context) : null,
      contextValid: null,
      training: false,
    });
    return { output, state } as unknown as tf.TensorContainer;
  }) as unknown as { output: tf.Tensor; state: State };
  const host = { output: await fromTensor(result.output), state: await readState(result.state) };
  result.output.dispose();
  disposeState(result.state);
  return host;
}

/** Law 6: no gradient reaches padded tokens, and what they hold (NaN) reaches no gradient. */
export const paddingGradientLaw: Law<MixerSubject> = {
  number: 6,
  sampled: false,
  title: 'gradients are finite and zero at padding that holds NaN',
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { length } = sizes(subject);
      const rows = 4;
      const valid = validTokens('left', length);
      const mask = maskOf(valid, length);
      const clean = randomArray([rows, length, mixer.dim], 421);
      const data = poisonMasked(clean.data, clean.shape, [...mask.data]);
      const options = optionsOf({ x: clean, mask, context: randomContext(subject, rows, 422) });
      const x = toTensor({ shape: clean.shape, data });
      const weights = toTensor(randomArray([rows, length, mixer.outputDim], 423));
      const parameters = [...mixer.namedParameters()];
      const by = [x, ...parameters.map(([, parameter]) => parameter.value)];
      const gradients = gradientsOf(() => tf.sum(tf.mul(mixer.forward(x, options).output, weights)), by);
      const faults: (string | null)[] = [];
      for (const [index, gradient] of gradients.entries()) {
        if (!gradient) continue;
        const label = index === 0 ? 'gradient of x' : `gradient of ${parameters[index - 1]![0]}`;
        const host = await fromTensor(gradient);
        faults.push(finiteFault(label, host.data));
        if (index > 0) continue;
        for (const [b, tokens] of valid.entries()) {
          const padded = Array.from({ length }, (_, t) => t).filter((t) => !tokens.includes(t));
          const stray = pickTokens(rowOf(host, b), padded).data.find((value) => value !== 0);
          if (stray !== undefined) faults.push(`${label}: ${stray} at padding of row ${b}, expected 0`);
        }
      }
      tf.dispose([x, weights, options as tf.TensorContainer, gradients.filter((gradient) => gradient !== null)]);
      holds(faults);
    }),
};

/** Law 6: rows of a growing state that belong to no token of their row have no weight, whatever they hold. */
export const unusedStateLaw: Law<MixerSubject> = {
  number: 6,
  title: 'unused rows of a growing state have no weight',
  applies: (subject) => {
    const mixer = subject.build();
    const grows = Object.values(mixer.stateShapes(1)).some((shape) => shape.includes('length'));
    const pieces = canSplit(mixer);
    mixer.dispose();
    return grows && pieces ? true : 'no state tensor grows with the tokens';
  },
  check: (subject) =>
    withMixer(subject, async (mixer) => {
      const { length } = sizes(subject);
      const rms = subject.tolerance?.forward ?? 1e-5;
      const valid = [Array.from({ length }, (_, t) => t), [0, 1]];
      const mask = maskOf(valid, length);
      const x = randomArray([2, length, mixer.dim], 431);
      const context = randomContext(subject, 2, 432);
      const first = await feed(mixer, { x, mask, context });
      const next = { x: randomArray([2, 2, mixer.dim], 433), context };
      const clean = await feed(mixer, next, first.state);
      const shapes = mixer.stateShapes(2);
      const host = await readState(first.state);
      // finite junk: those rows are zeros by contract, and a weight of zero times NaN would be NaN
      const dirty = Object.fromEntries(
        Object.entries(host).map(([name, array]) => {
          const axis = (shapes[name] ?? []).indexOf('length');
          if (axis < 0) return [name, toTensor(array)];
          const inner = array.shape.slice(axis + 1).reduce((n, e) => n * e, 1);
          const outer = array.shape.slice(1, axis).reduce((n, e) => n * e, 1);
          const kept = array.shape[axis]!;
          const data = array.data.map((value, i) => {
            const row = Math.floor(i / (outer * kept * inner));
            const place = Math.floor(i / inner) % kept;
            return row === 1 && place < kept - 2 ? 50 : value;
          });
          return [name, toTensor({ shape: array.shape, data })];
        }),
      ) as unknown as State;
      const changed = await feed(mixer, next, dirty);
      for (const state of [first.state, clean.state, dirty, changed.state]) disposeState(state);
      holds([closenessFault('output after junk in unused state rows', changed.output, clean.output, { rms })]);
    }),
};
