import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import { mixingOf } from './mixing.ts';
import { standardise } from './network.ts';
import { gatesOf, headRows, rowsOf } from './titans-neural-memory.ts';

const MECHANISM = 'titans-neural-memory';

/** Inputs of `publishedTitansLinear`, all float32. */
export interface PublishedTitansLinearInputs {
  /** [B, T, H, D], like key and value */
  readonly query: tf.Tensor;
  readonly key: tf.Tensor;
  readonly value: tf.Tensor;
  /** theta [B, T, H] */
  readonly stepSize: tf.Tensor;
  /** log(1 - alpha) [B, T, H] */
  readonly logDecay: tf.Tensor;
  /** log eta [B, T, H] */
  readonly logMomentum: tf.Tensor;
  /** of the norm [H, D] */
  readonly weight: tf.Tensor;
  readonly bias: tf.Tensor;
  /** M before the first token [B, H, D, D]; zeros when left out */
  readonly memory?: tf.Tensor | undefined;
}

/**
 * The linear Titans memory as flash-linear-attention has it: the target is v - k, the output `z + LayerNorm(z) w + b` with z what the memory
 * gives, and the error is not quite the gradient, since a division meant for all three of its terms reaches two of them:
 * `D g - (sum g) / (D s) - x^ sum(g x^) / (D s)`. For comparison and golden parity; `titansNeuralMemory` with a norm has the gradient.
 *
 * @param settings chunkSize, tokens whose gradients are taken at the same weights; epsilon of the norm, default 1e-6
 * @returns output [B, T, H, D] and the memory [B, H, D, D]; the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see flash-linear-attention, `fla/ops/titans/naive.py`
 */
export function publishedTitansLinear(
  inputs: PublishedTitansLinearInputs,
  settings: { readonly chunkSize: number; readonly epsilon?: number },
): { output: tf.Tensor4D; state: { memory: tf.Tensor4D } } {
  const extents = new Map<string, number>();
  for (const name of ['query', 'key', 'value'] as const) checkTensor(MECHANISM, name, inputs[name], ['B', 'T', 'H', 'D'], extents);
  for (const name of ['stepSize', 'logDecay', 'logMomentum'] as const) checkTensor(MECHANISM, name, inputs[name], ['B', 'T', 'H'], extents);
  for (const name of ['weight', 'bias'] as const) checkTensor(MECHANISM, name, inputs[name], ['H', 'D'], extents);
  if (inputs.memory) checkTensor(MECHANISM, 'memory', inputs.memory, ['B', 'H', 'D', 'D'], extents);
  const { chunkSize, epsilon = 1e-6 } = settings;
  checkSetting(
    MECHANISM,
    'chunkSize',
    Number.isInteger(chunkSize) && chunkSize >= 1,
    'a whole number, at least 1',
    chunkSize,
    'It counts tokens.',
  );
  const [batch, length, heads, dim] = inputs.query.shape as [number, number, number, number];
  return tidy(() => {
    const [query, key, value] = [rowsOf(inputs.query), rowsOf(inputs.key), rowsOf(inputs.value)];
    const [stepSize, logDecay, logMomentum] = [gatesOf(inputs.stepSize), gatesOf(inputs.logDecay), gatesOf(inputs.logMomentum)];
    const [weight, bias] = [headRows(inputs.weight, batch), headRows(inputs.bias, batch)];
    const count = batch * heads;
    let memory = inputs.memory ? tf.reshape(inputs.memory, [count, dim, dim]) : tf.zeros([count, dim, dim]);
    let momentum: tf.Tensor = tf.zeros([count, dim, dim]);
    const outputs: tf.Tensor[] = [];
    for (let at = 0; at < length; at += chunkSize) {
      const size = Math.min(chunkSize, length - at);
      const rows = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, at, 0], [count, size, dim]);
      const gates = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, at], [count, size]);
      const mixing = mixingOf({ stepSize: gates(stepSize), logDecay: gates(logDecay), logMomentum: gates(logMomentum), valid: null });
      const [q, k, v] = [rows(query), rows(key), rows(value)];
      const standard = standardise(tf.matMul(k, memory), epsilon);
      const gradient = tf.mul(tf.sub(tf.add(tf.mul(standard.rows, weight), bias), tf.sub(v, k)), weight);
      const sums = tf.add(tf.sum(gradient, 2, true), tf.mul(standard.rows, tf.sum(tf.mul(gradient, standard.rows), 2, true)));
      const error = tf.mul(tf.sub(tf.mul(gradient, dim), tf.mul(sums, tf.div(standard.scale, dim))), 2);
      const end = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, size - 1, 0], [count, 1, x.shape[2]!]);
      const read = tf.add(tf.mul(mixing.kept, tf.matMul(q, memory)), tf.mul(mixing.carried!, tf.matMul(q, momentum)));
      const z = tf.sub(read, tf.matMul(tf.mul(tf.matMul(q, k, false, true), mixing.moved), error));
      outputs.push(tf.add(z, tf.add(tf.mul(standardise(z, epsilon).rows, weight), bias)));
      const share = tf.reshape(end(mixing.moved), [count, size, 1]);
      const kept = tf.add(tf.mul(end(mixing.kept), memory), tf.mul(end(mixing.carried!), momentum));
      memory = tf.sub(kept, tf.matMul(k, tf.mul(error, share), true, false));
      momentum = tf.sub(tf.mul(mixing.momentumLeft!, momentum), tf.matMul(k, tf.mul(error, mixing.pushed!), true, false));
    }
    const output = tf.transpose(tf.reshape(tf.concat(outputs, 1), [batch, heads, length, dim]), [0, 2, 1, 3]) as tf.Tensor4D;
    return { output, state: { memory: tf.reshape(memory, [batch, heads, dim, dim]) as tf.Tensor4D } };
  });
}
