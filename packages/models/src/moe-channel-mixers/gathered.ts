import * as tf from '@tensorflow/tfjs-core';
import { expertMatMulKernel } from '@seqloom/core';
import type { Routing } from './route.ts';

/** What an expert does between its matrices. */
export type ExpertActivation = 'silu' | 'gelu' | 'relu';

/** Matrices of all experts, stacked. */
export interface Experts {
  /** [E, D, F] */
  readonly gate: tf.Tensor;
  /** [E, D, F] */
  readonly up: tf.Tensor;
  /** [E, F, D] */
  readonly down: tf.Tensor;
}

/** The gathered form: each token visits its experts, `y = sum over chosen e of weight W_down (act(W_gate x) * W_up x)`, [N, D]. */
export function gatheredForm(
  rows: tf.Tensor2D,
  { experts, weights }: Pick<Routing, 'experts' | 'weights'>,
  { gate, up, down }: Experts,
  activation: ExpertActivation,
): tf.Tensor2D {
  const [count, topK] = experts.shape;
  const dim = rows.shape[1];
  const ids = tf.reshape(experts, [count * topK]);
  // a token once per choice
  const input = tf.reshape(tf.add(tf.reshape(rows, [count, 1, dim]), tf.zeros([count, topK, dim])), [count * topK, dim]);
  const product = (x: tf.Tensor, weight: tf.Tensor): tf.Tensor => expertMatMulKernel.run({ input: x, experts: ids, weight }, {}).output;
  const hidden = tf.mul(activate(product(input, gate), activation), product(input, up));
  const output = tf.mul(product(hidden, down), tf.reshape(weights, [count * topK, 1]));
  return tf.sum(tf.reshape(output, [count, topK, dim]), 1);
}

function activate(x: tf.Tensor, activation: ExpertActivation): tf.Tensor {
  if (activation === 'silu') return tf.mul(x, tf.sigmoid(x));
  if (activation === 'relu') return tf.relu(x);
  return tf.mul(tf.mul(x, 0.5), tf.add(1, tf.erf(tf.mul(x, Math.SQRT1_2))));
}
