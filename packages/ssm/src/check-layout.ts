import { fail } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';

/**
 * Refuses masks, resets and the like that have not one number per token.
 *
 * @param input [B, T, ...]
 * @param tensors by argument; absent ones are passed over
 * @throws SeqLoomError naming the first that is not [B, T]
 */
export function checkPerToken(mechanism: string, input: tf.Tensor, tensors: Readonly<Record<string, tf.Tensor | undefined>>): void {
  const wanted = input.shape.slice(0, 2);
  for (const [argument, tensor] of Object.entries(tensors)) {
    if (!tensor || (tensor instanceof tf.Tensor && tf.util.arraysEqual(tensor.shape, wanted))) continue;
    fail({
      mechanism,
      argument,
      wanted: `of shape [${wanted.join(', ')}]`,
      given: tensor instanceof tf.Tensor ? `[${tensor.shape.join(', ')}]` : typeof tensor,
      remedy: 'Pass one number per token.',
    });
  }
}

/**
 * Refuses groups of input and output matrices that do not serve as many of what reads them each.
 *
 * @param what who reads them, such as heads
 */
export function checkGroups(mechanism: string, groups: number, count: number, what: string): void {
  if (count % groups === 0) return;
  fail({
    mechanism,
    argument: 'inputMatrix',
    wanted: `of a number of groups that divides the ${count} ${what}`,
    given: `${groups} groups`,
    remedy: `Let every group serve as many ${what}.`,
  });
}
