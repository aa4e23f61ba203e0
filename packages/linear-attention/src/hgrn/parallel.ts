import * as tf from '@tensorflow/tfjs-core';

/** A number per token and channel: its real part alone, or real and imaginary part. */
export type Parts = readonly tf.Tensor[];

/** What a direction of the recurrence works on; all [B, T, E] but the state. */
export interface Recurrence {
  readonly decay: Parts;
  readonly input: Parts;
  /** h before the first token, [B, E]; absent: zeros */
  readonly state?: Parts | undefined;
}

function times(a: Parts, b: Parts): tf.Tensor[] {
  const [x, y] = a;
  const [u, w] = b;
  if (!y || !w) return [tf.mul(x!, u!)];
  return [tf.sub(tf.mul(x!, u!), tf.mul(y, w)), tf.add(tf.mul(x!, w), tf.mul(y, u!))];
}

/**
 * The parallel form: an associative scan by doubling, `(a, h) then (b, g) = (a b, b h + g)`, in log2(T) rounds.
 *
 * Decays are multiplied, never divided by, so any of them is exact to rounding. T log T work: the form to read.
 *
 * @param reverse run from the last token to the first
 * @returns all h [B, T, E]
 */
export function parallelForm({ decay, input, state }: Recurrence, reverse = false): tf.Tensor[] {
  const [batch, length, width] = input[0]!.shape as [number, number, number];
  const start = state?.map((part) => tf.reshape(part, [batch, 1, width]));
  // the state is one more element in front, whose own decay nothing comes to meet
  let hidden = start ? input.map((part, i) => tf.concat([start[i]!, part], 1)) : [...input];
  let product = start ? decay.map((part) => tf.concat([tf.zeros([batch, 1, width]), part], 1)) : [...decay];
  const total = hidden[0]!.shape[1]!;
  const cut = (parts: Parts, from: number, size: number): tf.Tensor[] =>
    parts.map((part) => tf.slice(part, [0, from, 0], [batch, size, width]));
  const join = (edge: Parts, rest: Parts): tf.Tensor[] =>
    edge.map((part, i) => tf.concat(reverse ? [rest[i]!, part] : [part, rest[i]!], 1));
  for (let reach = 1; reach < total; reach *= 2) {
    const size = total - reach;
    // elements that have one to take in at this reach, those that they take in, and those that do not
    const [own, other, edge] = reverse ? [0, reach, size] : [reach, 0, 0];
    const ownProduct = cut(product, own, size);
    const carried = times(ownProduct, cut(hidden, other, size));
    const merged = cut(hidden, own, size).map((part, i) => tf.add(part, carried[i]!));
    const products = times(ownProduct, cut(product, other, size));
    [hidden, product] = [join(cut(hidden, edge, reach), merged), join(cut(product, edge, reach), products)];
  }
  return start ? cut(hidden, 1, length) : hidden;
}
