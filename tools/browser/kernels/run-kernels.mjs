// core, the kernels and one mechanism, as a bundled application uses them; the browser test compares what a page and what Node gets
import { explain, setupBackend } from '@seqloom/core';
import { useWasmKernels } from '@seqloom/kernels-wasm';
import { LinearAttention } from '@seqloom/linear-attention/linear-attention';
import '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { trainOneLayer } from '../../consumer/one-layer.mjs';

/**
 * @param {import('@seqloom/core').SetupOptions} options
 * @param {boolean} [threads] false keeps tfjs-wasm from its threaded build
 * @returns {Promise<import('./run-kernels.d.mts').Findings>}
 */
export async function runKernels(options, threads = true) {
  if (!threads) tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false);
  const training = await trainOneLayer('wasm', { ...options, kernels: [useWasmKernels] });
  const layer = new LinearAttention({ dim: 16, heads: 2, seed: 3 });
  const x = tf.randomNormal([2, 40, 16], 0, 1, 'float32', 11);
  const output = layer.forward(x).output;
  const gradient = tf.grad((input) => tf.sum(tf.square(layer.forward(input).output)))(x);
  const a = tf.randomNormal([3, 17, 33], 0, 1, 'float32', 5);
  const b = tf.randomNormal([3, 19, 33], 0, 1, 'float32', 6);
  const product = tf.matMul(a, b, false, true);
  const ours = tf.getKernel('BatchMatMul', 'wasm').kernelFunc;
  const explanation = explain();
  // puts tfjs's own kernels back
  await setupBackend('wasm', { kernels: [] });
  const theirs = tf.getKernel('BatchMatMul', 'wasm').kernelFunc;
  const productOfTfjs = tf.matMul(a, b, false, true);
  const numbers = async (tensor) => [...(await tensor.data())];
  return {
    training,
    explanation,
    shared: typeof SharedArrayBuffer !== 'undefined' && tf.backend().wasm.HEAPU8.buffer instanceof SharedArrayBuffer,
    replaced: ours !== theirs,
    product: await numbers(product),
    productOfTfjs: await numbers(productOfTfjs),
    output: await numbers(output),
    gradient: await numbers(gradient),
  };
}
