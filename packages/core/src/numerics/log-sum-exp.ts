import * as tf from '@tensorflow/tfjs-core';
import { fail } from '../error.ts';

// log-sum-exps of nothing are -Infinity; above this floor no two infinities ever meet
const FLOOR = -1e29;

/** A partial attention result: the output over some keys and the log of its softmax denominator. */
export interface PartialAttention {
  /** [..., Dv] */
  readonly output: tf.Tensor;
  /** [...], -Infinity where no key was seen */
  readonly logSumExp: tf.Tensor;
}

/**
 * Merges attention results over disjoint sets of keys into the result over their union, exactly.
 *
 * logSumExp = ln(sum_i e^(logSumExp_i)), output = sum_i e^(logSumExp_i - logSumExp) output_i; differentiable in every output and
 * logSumExp. Rows that saw nothing anywhere give output 0, logSumExp -Infinity and zero gradients. A sink logit belongs to one of
 * the parts only.
 *
 * @param parts at least one; outputs of one shape [..., Dv], logSumExps of shape [...]
 * @returns the merged output and logSumExp, owned by the caller
 * @throws SeqLoomError when there is no part or the shapes differ
 * @see "Online normalizer calculation for softmax" (Milakov and Gimelshein 2018)
 */
export function mergeAttention(parts: readonly PartialAttention[]): { output: tf.Tensor; logSumExp: tf.Tensor } {
  const shape = parts[0]?.output.shape;
  if (!shape)
    return fail({
      mechanism: 'mergeAttention',
      argument: 'parts',
      wanted: 'at least one partial result',
      given: 'none',
      remedy: 'Pass the parts to merge.',
    });
  const leading = shape.slice(0, -1);
  parts.forEach((part, index) => {
    if (!tf.util.arraysEqual(part.output.shape, shape) || !tf.util.arraysEqual(part.logSumExp.shape, leading)) {
      fail({
        mechanism: 'mergeAttention',
        argument: `parts[${index}]`,
        wanted: `output [${shape.join(', ')}] with logSumExp [${leading.join(', ')}]`,
        given: `output [${part.output.shape.join(', ')}] with logSumExp [${part.logSumExp.shape.join(', ')}]`,
        remedy: 'Merge results of the same queries only.',
      });
    }
  });
  const width = shape.at(-1)!;
  const merge = tf.customGrad((...args) => {
    const save = args.pop() as tf.GradSaveFunc;
    const [outputs, sums] = args as tf.Tensor[] as [tf.Tensor, tf.Tensor]; // [P, N, Dv], [P, N, 1]
    const { output, logSumExp, shares } = combine(outputs, sums);
    // one tensor carries both results: a custom gradient has one output
    const value = tf.concat([output, logSumExp], -1);
    // saved last: what is saved stays alive when a later operation throws
    save([outputs, output, shares]);
    return {
      value,
      gradFunc: (dPacked: tf.Tensor, saved: tf.Tensor[]) => {
        const [outputs, output, shares] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
        const [dOutput, dLogSumExp] = unpack(dPacked, width);
        // d logSumExp_i = share_i (dO·(O_i - O) + d logSumExp), d O_i = share_i dO
        const lean = tf.sum(tf.mul(tf.sub(outputs, output), dOutput), -1, true);
        return [tf.mul(shares, dOutput), tf.mul(shares, tf.add(lean, dLogSumExp))];
      },
    };
  });
  return tf.tidy(() => {
    // flat rows: tfjs-webgpu broadcasts at most four axes
    const packed = merge(
      tf.stack(parts.map((part) => tf.reshape(part.output, [-1, width]))),
      tf.stack(parts.map((part) => tf.reshape(part.logSumExp, [-1, 1]))),
    ) as tf.Tensor;
    const [output, logSumExp] = unpack(packed, width);
    return { output: tf.reshape(output, shape), logSumExp: tf.reshape(logSumExp, leading) };
  });
}

function combine(outputs: tf.Tensor, sums: tf.Tensor): { output: tf.Tensor; logSumExp: tf.Tensor; shares: tf.Tensor } {
  const top = tf.maximum(tf.max(sums, 0), FLOOR); // [N, 1]
  const weights = tf.exp(tf.sub(sums, top)); // [P, N, 1]
  const total = tf.sum(weights, 0);
  const shares = tf.div(weights, tf.maximum(total, 1.2e-38));
  return { output: tf.sum(tf.mul(shares, outputs), 0), logSumExp: tf.add(top, tf.log(total)), shares };
}

function unpack(packed: tf.Tensor, width: number): [tf.Tensor, tf.Tensor] {
  const lead = packed.shape.slice(0, -1).map(() => 0);
  const all = packed.shape.slice(0, -1).map(() => -1);
  return [tf.slice(packed, [...lead, 0], [...all, width]), tf.slice(packed, [...lead, width], [...all, 1])];
}
