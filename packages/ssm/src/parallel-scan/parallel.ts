import * as tf from '@tensorflow/tfjs-core';
import { product, total } from './complex.ts';
import type { Parts } from './complex.ts';

/** What every form reads: each number as its parts, [real] or [real, imaginary]. */
export interface Scan {
  /** [B, T, C] */
  readonly decay: Parts;
  /** [B, T, C] */
  readonly input: Parts;
  /** [B, C]; null: zeros */
  readonly hidden: Parts | null;
  /** backwards in time */
  readonly reverse: boolean;
}

/** What every form returns, in the parts of its input. */
export interface Scanned {
  /** [B, T, C] */
  readonly output: Parts;
  /** [B, C] */
  readonly hidden: Parts;
}

/**
 * The parallel form: log2(T) sweeps over the whole sequence. A sweep of stride k composes each pair (a, b), which stands for the map
 * `h -> a h + b` of the last k tokens, with the pair k tokens before it: `(a, b) after (a', b') = (a a', a b' + b)`.
 */
export function parallelForm({ decay, input, hidden, reverse }: Scan): Scanned {
  const [batch, length, channels] = input[0]!.shape as [number, number, number];
  const first = reverse ? length - 1 : 0;
  let [a, b] = [decay, input];
  if (hidden) {
    // the state before the first token comes in as a token in front of it, whose own decay nobody reads
    const rows = hidden.map((part) => tf.reshape(part, [batch, 1, channels]));
    const join = (part: tf.Tensor, row: tf.Tensor): tf.Tensor => tf.concat(reverse ? [part, row] : [row, part], 1);
    a = a.map((part) => join(part, tf.zeros([batch, 1, channels])));
    b = b.map((part, index) => join(part, rows[index]!));
  }
  const count = b[0]!.shape[1]!;
  for (let stride = 1; stride < count; stride *= 2) {
    const before = (parts: Parts, identity: number): tf.Tensor[] =>
      parts.map((part, index) => shift(part, stride, index === 0 ? identity : 0, reverse));
    const [aBefore, bBefore] = [before(a, 1), before(b, 0)];
    b = total(product(a, bBefore), b);
    a = product(a, aBefore);
  }
  const output = hidden
    ? b.map((part) => tf.slice(part, [0, reverse ? 0 : 1, 0], [batch, length, channels]))
    : b.map((part) => tf.clone(part));
  const last = output.map((part) => tf.reshape(tf.slice(part, [0, length - 1 - first, 0], [batch, 1, channels]), [batch, channels]));
  return { output, hidden: last };
}

// each token receives the one `stride` tokens before it, and the first ones the filling
function shift(part: tf.Tensor, stride: number, filling: number, reverse: boolean): tf.Tensor {
  const [batch, length, channels] = part.shape as [number, number, number];
  const moved = tf.slice(part, [0, reverse ? stride : 0, 0], [batch, length - stride, channels]);
  const edge = tf.fill([batch, stride, channels], filling);
  return tf.concat(reverse ? [moved, edge] : [edge, moved], 1);
}
