import * as tf from '@tensorflow/tfjs-core';
import { parallelForm as weigh } from '../based-taylor/parallel.ts';
import type { PrefixResult } from './chunk.ts';
import type { PrefixCall } from './jrt-prefix-linear-attention.ts';

/** The parallel form: the keys of the prefix stand in front of the causal ones, and query i sees the first M + i + 1 of both. */
export function parallelForm({ query, key, value, prefix, mask, memory, symmetric, epsilon }: PrefixCall): PrefixResult {
  const [batch, length, heads, width] = value.shape;
  const join = (first: tf.Tensor | undefined, second: tf.Tensor): tf.Tensor => (first ? tf.concat([first, second], 1) : second);
  const before = prefix?.key.shape[1] ?? 0;
  const live = (given: tf.Tensor | null | undefined, count: number): tf.Tensor => given ?? tf.ones([batch, count]);
  const masked = mask || prefix?.mask;
  const counts = tf.add(tf.zeros([batch, length]), tf.range(before + 1, before + length + 1, 1, 'float32')) as tf.Tensor2D;
  const sums = weigh(
    {
      query,
      key: join(prefix?.key, key) as tf.Tensor4D,
      value: tf.concat([join(prefix?.value, value), tf.ones([batch, before + length, heads, 1])], 3) as tf.Tensor4D,
      mask: masked ? (join(prefix ? live(prefix.mask, before) : undefined, live(mask, length)) as tf.Tensor2D) : undefined,
      memory: memory ?? undefined,
    },
    counts,
    symmetric,
  );
  const [numerator, denominator] = tf.split(sums.output, [width, 1], 3) as [tf.Tensor4D, tf.Tensor4D];
  return { output: tf.div(numerator, tf.add(denominator, epsilon)), memory: sums.memory };
}
