import * as tf from '@tensorflow/tfjs-core';
import { countLoads, keepRows } from './route.ts';
import type { Routing } from './route.ts';

/** Coefficients of the losses that keep a router balanced; 0: not computed. */
export interface BalanceCoefficients {
  /** Switch's load balance over all tokens of a call */
  readonly loadBalance: number;
  /** of the squared log-sum-exp of the logits */
  readonly zLoss: number;
  /** DeepSeek's balance within each sequence */
  readonly sequence: number;
}

/** What the losses are made of. */
interface BalanceInputs extends Pick<Routing, 'experts' | 'scores'> {
  /** [N, E] */
  readonly logits: tf.Tensor2D;
  /** [B, T]; null: no padding */
  readonly valid: tf.Tensor | null;
}

/**
 * The auxiliary losses of a router, by name, times their coefficients; padding does not count.
 *
 * With f_e the share of tokens that chose expert e (they sum to k) and P_e the mean of the normalised scores: `loadBalance = E sum f_e P_e`
 * over the batch, at best k; `sequence = mean over rows of E / k sum f_e P_e` within a row, at best 1; `zLoss = mean (log sum exp l)^2`.
 * Gradients flow through P and l only.
 *
 * @param batch B of the N = B T rows
 */
export function balanceLosses(
  { logits, scores, experts, valid }: BalanceInputs,
  coefficients: BalanceCoefficients,
  batch: number,
): Map<string, tf.Scalar> {
  const losses = new Map<string, tf.Scalar>();
  const [rows, count] = logits.shape;
  const topK = experts.shape[1];
  const mask = valid ? tf.reshape(valid, [rows, 1]) : null;
  const tokens = tf.maximum(mask ? tf.sum(mask) : tf.scalar(rows), 1);
  // the scores of a sigmoid do not sum to 1; those of a softmax do but for rounding
  const shares = tf.div(scores, tf.add(tf.sum(scores, 1, true), 1e-20));
  const counted = mask ? tf.mul(shares, mask) : shares;
  const add = (name: keyof BalanceCoefficients, value: () => tf.Tensor): void => {
    if (coefficients[name] > 0) losses.set(name, tf.mul(value(), coefficients[name]));
  };
  add('loadBalance', () => {
    const loads = tf.div(countLoads(experts, count), tokens); // [1, E]
    return tf.mul(tf.sum(tf.mul(loads, tf.div(tf.sum(counted, 0, true), tokens))), count);
  });
  add('sequence', () => {
    const lengths = tf.maximum(mask ? tf.sum(tf.reshape(mask, [batch, rows / batch]), 1, true) : tf.fill([batch, 1], rows / batch), 1);
    const loads = tf.div(countLoads(experts, count, batch), lengths); // [B, E]
    const means = tf.div(tf.sum(tf.reshape(counted, [batch, rows / batch, count]), 1), lengths);
    return tf.mul(tf.sum(tf.mul(loads, means)), count / (topK * batch));
  });
  add('zLoss', () => {
    const squares = tf.square(tf.logSumExp(mask ? keepRows(logits, mask) : logits, 1, true)); // [N, 1]
    return tf.div(tf.sum(mask ? tf.mul(squares, mask) : squares), tokens);
  });
  return losses;
}
