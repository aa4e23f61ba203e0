import * as tf from '@tensorflow/tfjs-core';
import { parallelScan } from '../parallel-scan/parallel-scan.ts';
import type { S4dCall, S4dReads } from './chunk.ts';

/** The recurrent form: `x_t = Abar x_{t-1} + Bbar u_t` for every channel and pole by the `ComplexLinearScan` kernel; for one token, a step. */
export function recurrentForm({ input, system, output, hidden, lengths }: S4dCall): S4dReads {
  const [batch, length, channels] = input.shape as [number, number, number];
  const states = system.logDecay.shape[1]!;
  const lanes = channels * states;
  const column = tf.reshape(input, [batch, length, channels, 1]);
  const drive = system.factor.map((part) => tf.reshape(tf.mul(column, part), [batch, length, lanes]));
  const flat = (part: tf.Tensor): tf.Tensor => tf.reshape(part, [lanes]);
  const start = hidden?.map((part) => tf.reshape(part, [batch, lanes]));
  const mask =
    lengths && tf.less(tf.reshape(tf.range(0, length, 1, 'float32'), [1, length]), tf.reshape(tf.cast(lengths, 'float32'), [batch, 1]));
  const found = parallelScan(
    { input: drive[0]!, inputImaginary: drive[1]!, logDecay: flat(system.logDecay), phase: flat(system.phase) },
    { ...(start ? { state: { hidden: start[0]!, hiddenImaginary: start[1]! } } : {}), ...(mask ? { mask } : {}) },
  );
  const perPole = (part: tf.Tensor): tf.Tensor => tf.reshape(part, [batch, length, channels, states]);
  const terms = tf.sub(tf.mul(perPole(found.output), output[0]!), tf.mul(perPole(found.outputImaginary!), output[1]!));
  const last = [found.state.hidden, found.state.hiddenImaginary!].map((part) => tf.reshape(part, [batch, channels, states]));
  return { output: tf.mul(tf.sum(terms, 3), 2), hidden: last };
}
