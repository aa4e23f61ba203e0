// what a user writes: one layer of one mechanism, trained for ten steps; the consumer and browser tests run this very file
import { explain, setupBackend } from '@seqloom/core';
import { LinearAttention } from '@seqloom/linear-attention/linear-attention';
import * as tf from '@tensorflow/tfjs-core';

/**
 * @param {'wasm' | 'cpu' | 'webgpu' | 'auto'} backend
 * @param {import('@seqloom/core').SetupOptions} [options]
 * @returns {Promise<import('./outcome.ts').Outcome>}
 */
export async function trainOneLayer(backend, options) {
  await setupBackend(backend, options);
  const layer = new LinearAttention({ dim: 16, heads: 2, seed: 1 });
  const x = tf.randomNormal([2, 32, 16], 0, 1, 'float32', 7);
  const target = tf.pad(tf.slice(x, [0, 0, 0], [2, 31, 16]), [
    [0, 0],
    [1, 0],
    [0, 0],
  ]);
  const variables = layer.parameters().map((parameter) => parameter.variable);
  const losses = [];
  let tensors = 0;
  for (let step = 0; step < 10; step++) {
    const { value, grads } = tf.variableGrads(() => tf.mean(tf.squaredDifference(layer.forward(x).output, target)), variables);
    for (const variable of variables) tf.tidy(() => variable.assign(tf.sub(variable, tf.mul(0.5, grads[variable.name]))));
    losses.push((await value.data())[0]);
    tf.dispose([value, grads]);
    if (step === 0) tensors = tf.memory().numTensors;
  }
  const leaked = tf.memory().numTensors - tensors;
  layer.dispose();
  tf.dispose([x, target]);
  const { backend: used, kernels } = explain();
  return { backend: used, losses, leaked, parameters: variables.length, kernels: kernels.map(({ kernel }) => kernel) };
}
