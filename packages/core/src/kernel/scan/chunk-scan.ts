import * as tf from '@tensorflow/tfjs-core';
import { sliceTime } from '../../numerics/slice-time.ts';

/** One number per element as its components: [real] or [real, imaginary]. */
export type Components = readonly tf.Tensor[];

/** The product of two real or complex tensors, broadcasting. */
export function multiply(left: Components, right: Components): tf.Tensor[] {
  const [a, b] = left as [tf.Tensor, tf.Tensor?];
  const [c, d] = right as [tf.Tensor, tf.Tensor?];
  if (!b || !d) return [tf.mul(a, c)];
  return [tf.sub(tf.mul(a, c), tf.mul(b, d)), tf.add(tf.mul(a, d), tf.mul(b, c))];
}

/** The sum of two real or complex tensors. */
export function sum(left: Components, right: Components): tf.Tensor[] {
  return left.map((part, index) => tf.add(part, right[index]!));
}

/** The complex conjugate; a real tensor is its own. */
export function conjugate(value: Components): tf.Tensor[] {
  return value.map((part, index) => (index === 0 ? part : tf.neg(part)));
}

/** Steps `start <= t < start + count` of tensors [B, T, C]. */
export function steps(value: Components, start: number, count: number): tf.Tensor[] {
  return value.map((part) => sliceTime(part, start, count));
}

/** Tensors [B, ., C] one after another in time. */
export function joinSteps(pieces: readonly Components[]): tf.Tensor[] {
  return pieces[0]!.map((_, index) =>
    tf.concat(
      pieces.map((piece) => piece[index]!),
      1,
    ),
  );
}

/**
 * All states of h_t = a_t h_{t-1} + b_t, real or complex, forwards or backwards in time.
 *
 * Time is cut into about sqrt(T) chunks of about sqrt(T) steps. One sweep runs all chunks side by side from a zero state and
 * multiplies up their decays, one sweep carries the state from chunk to chunk, and a last product adds to each step what the carried
 * state became by then. So there are O(sqrt(T)) tensor operations, O(T) work and memory, and nothing is ever divided by.
 *
 * @param decay a [B, T, C]
 * @param input b [B, T, C]
 * @param state h before the first step [B, 1, C]; zeros when left out
 * @param reverse whether the first step is the last in time
 * @returns h [B, T, C]
 */
export function chunkScan(decay: Components, input: Components, state: Components | undefined, reverse: boolean): tf.Tensor[] {
  const [batch, time, channels] = decay[0]!.shape as [number, number, number];
  if (time === 1) return state ? sum(multiply(decay, state), input) : input.map((part) => tf.clone(part));
  const length = Math.ceil(Math.sqrt(time));
  const chunks = Math.ceil(time / length);
  const missing = chunks * length - time;
  // steps with a = 1 and b = 0 fill the last chunk: they hand the state on
  const fold = (value: Components, isDecay: boolean): tf.Tensor[] =>
    value.map((part, index) => {
      const filled =
        missing === 0
          ? part
          : tf.pad(
              part,
              [
                [0, 0],
                [0, missing],
                [0, 0],
              ],
              isDecay && index === 0 ? 1 : 0,
            );
      return tf.reshape(filled, [batch * chunks, length, channels]);
    });
  const order = (count: number): number[] => Array.from({ length: count }, (_, place) => (reverse ? count - 1 - place : place));
  const [a, b] = [fold(decay, true), fold(input, false)];

  const hidden: tf.Tensor[][] = [];
  const product: tf.Tensor[][] = [];
  let last: tf.Tensor[] | undefined;
  let total: tf.Tensor[] | undefined;
  for (const step of order(length)) {
    const [decayNow, inputNow] = [steps(a, step, 1), steps(b, step, 1)]; // [B * chunks, 1, C]
    last = last ? sum(multiply(decayNow, last), inputNow) : inputNow;
    total = total ? multiply(decayNow, total) : decayNow;
    hidden[step] = last;
    product[step] = total;
  }

  const perChunk = (value: Components): tf.Tensor[] => value.map((part) => tf.reshape(part, [batch, chunks, channels]));
  const [lastOfChunk, totalOfChunk] = [perChunk(last!), perChunk(total!)];
  const starts: tf.Tensor[][] = [];
  let carried: Components = state ?? decay.map(() => tf.zeros([batch, 1, channels]));
  order(chunks).forEach((chunk, place) => {
    starts[chunk] = [...carried];
    if (place < chunks - 1) carried = sum(multiply(steps(totalOfChunk, chunk, 1), carried), steps(lastOfChunk, chunk, 1));
  });

  const start = joinSteps(starts).map((part) => tf.reshape(part, [batch * chunks, 1, channels]));
  const all = sum(multiply(joinSteps(product), start), joinSteps(hidden));
  const whole = all.map((part) => tf.reshape(part, [batch, chunks * length, channels]));
  return missing === 0 ? whole : steps(whole, 0, time);
}

/** Gradients of `chunkScan`: see `scanGradients`. */
export interface ScanGradients {
  readonly decay: tf.Tensor[];
  readonly input: tf.Tensor[];
  readonly state: tf.Tensor[];
}

/**
 * Gradients of h_t = a_t h_{t-1} + b_t: with g_t = dh_t + conj(a_{t+1}) g_{t+1}, which is a scan the other way,
 * db_t = g_t, da_t = g_t conj(h_{t-1}) and dh_0 = conj(a_1) g_1.
 *
 * @param decay a [B, T, C]
 * @param hidden h [B, T, C]
 * @param state h before the first step [B, 1, C], or nothing for zeros
 * @param dHidden gradient of h [B, T, C]
 * @param dLast gradient of the state after the last step [B, 1, C], beyond what `dHidden` has for it
 * @param reverse whether the forward ran backwards in time
 */
export function scanGradients(
  decay: Components,
  hidden: Components,
  state: Components | undefined,
  dHidden: Components,
  dLast: Components,
  reverse: boolean,
): ScanGradients {
  const [batch, time, channels] = decay[0]!.shape as [number, number, number];
  const before = state ?? decay.map(() => tf.zeros([batch, 1, channels]));
  const one = decay.map((_, index) => (index === 0 ? tf.ones([batch, 1, channels]) : tf.zeros([batch, 1, channels])));
  const back = conjugate(decay);
  const [first, rest] = reverse ? [time - 1, 0] : [0, 1];
  // the decay that follows each step; after the last one the gradient of the final state comes in whole
  const following = time === 1 ? one : joinSteps(reverse ? [one, steps(back, rest, time - 1)] : [steps(back, rest, time - 1), one]);
  const gradient = chunkScan(following, dHidden, dLast, !reverse);
  const shift = reverse ? 1 : 0;
  const previous =
    time === 1 ? before : joinSteps(reverse ? [steps(hidden, shift, time - 1), before] : [before, steps(hidden, shift, time - 1)]);
  return {
    decay: multiply(gradient, conjugate(previous)),
    input: gradient,
    state: multiply(steps(back, first, 1), steps(gradient, first, 1)),
  };
}
