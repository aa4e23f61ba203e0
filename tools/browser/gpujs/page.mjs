import { setupBackend } from '@seqloom/core';
import * as kernels from '@seqloom/kernels-gpu/gpujs';
import * as tf from '@tensorflow/tfjs-core';

/** An array of given shape with reproducible numbers in [low, high). */
function numbers(seed, low, high, ...shape) {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return {
    shape,
    data: Float32Array.from(
      { length: size },
      (_, index) => low + (high - low) * ((Math.sin(index * 12.9898 + seed) * 43758.5453) % 1) ** 2,
    ),
  };
}

const attention = { query: numbers(1, -1, 1, 1, 9, 4, 3), key: numbers(2, -0.5, 0.5, 1, 9, 2, 3), value: numbers(3, -1, 1, 1, 9, 2, 5) };

const calls = {
  matmul: (gpujs) => kernels.matmul(gpujs, { left: numbers(1, -1, 1, 2, 9, 5), right: numbers(2, -1, 1, 2, 5, 7) }),
  rmsNorm: (gpujs) =>
    kernels.rmsNorm(gpujs, { input: numbers(1, -1, 1, 5, 6), weight: numbers(2, 0, 1, 6), gate: numbers(3, -2, 2, 5, 6) }),
  linearScan: (gpujs) =>
    kernels.linearScan(gpujs, { decay: numbers(1, 0, 1, 2, 17, 3), input: numbers(2, -1, 1, 2, 17, 3), state: numbers(3, -1, 1, 2, 3) }),
  rotary: (gpujs) =>
    kernels.rotary(gpujs, { input: numbers(1, -1, 1, 2, 5, 2, 6), cos: numbers(2, -1, 1, 1, 5, 2), sin: numbers(3, -1, 1, 1, 5, 2) }),
  causalConv1d: (gpujs) => {
    const [input, weight, state] = [numbers(1, -1, 1, 2, 7, 3), numbers(2, -1, 1, 3, 4), numbers(3, -1, 1, 2, 3, 3)];
    return kernels.causalConv1d(gpujs, { input, weight, state }, { activation: 'silu' });
  },
  selectiveScan: (gpujs) => {
    const [input, delta, transition] = [numbers(1, -1, 1, 2, 9, 3), numbers(2, 0, 1, 2, 9, 3), numbers(3, -2, -0.1, 3, 4)];
    const [inputMatrix, outputMatrix] = [numbers(4, -1, 1, 2, 9, 4), numbers(5, -1, 1, 2, 9, 4)];
    return kernels.selectiveScan(gpujs, { input, delta, transition, inputMatrix, outputMatrix });
  },
  softmaxCrossEntropy: (gpujs) =>
    kernels.softmaxCrossEntropy(
      gpujs,
      { logits: numbers(1, -5, 5, 4, 9), labels: Int32Array.of(8, -1, 0, 3) },
      { softCap: 4, zLoss: 0.01 },
    ),
  gatherRows: (gpujs) => kernels.gatherRows(gpujs, { table: numbers(1, -1, 1, 5, 3), indices: Int32Array.of(4, 0, 0, 2) }),
  softmaxAttention: (gpujs) => kernels.softmaxAttention(gpujs, attention, { causal: true, softCap: 2, blockSize: 4 }),
  softmaxAttentionGradient: async (gpujs) => {
    const forward = await kernels.softmaxAttention(gpujs, attention, { causal: true, blockSize: 4 });
    const cotangent = numbers(4, -1, 1, 1, 9, 4, 5);
    return kernels.softmaxAttentionGradient(gpujs, { ...attention, ...forward, cotangent }, { causal: true, blockSize: 4 });
  },
  linearAttention: (gpujs) => {
    const [logDecay, beta] = [numbers(4, -1, 0, 1, 9, 2), numbers(5, 0, 1, 1, 9, 2)];
    return kernels.linearAttention(gpujs, { ...attention, logDecay, beta }, { updateRule: 'gated_delta', chunkSize: 4 });
  },
};

/** Runs every call in one mode; gives the numbers and what gpu.js says that ran. */
globalThis.runGpujs = async (mode) => {
  const gpujs = await kernels.createGpujs({ mode });
  const results = {};
  for (const [name, call] of Object.entries(calls)) results[name] = Object.values(await call(gpujs)).flatMap(({ data }) => [...data]);
  const report = gpujs.report();
  await gpujs.destroy();
  return { results, report };
};

/** A tensor through a gpu.js kernel and back; gives the result and what was read back and copied on the way. */
globalThis.shareDevice = async () => {
  await setupBackend('webgpu', { kernels: [] });
  const gpujs = await kernels.createGpujs({ mode: 'webgpu' });
  // an operation puts the numbers on the device
  const input = tf.add(tf.ones([200, 200]), tf.zeros([200, 200]));
  await input.data();
  const doubled = tf.add(input, input);
  const counts = { mapAsync: 0, copyBufferToBuffer: 0 };
  const undo = [];
  for (const [prototype, name] of [
    [GPUBuffer.prototype, 'mapAsync'],
    [GPUCommandEncoder.prototype, 'copyBufferToBuffer'],
  ]) {
    const original = prototype[name];
    prototype[name] = function counted(...values) {
      counts[name] += 1;
      return original.apply(this, values);
    };
    undo.push(() => (prototype[name] = original));
  }
  const lent = await kernels.fromTensor(gpujs, doubled);
  const { output } = await kernels.matmul(gpujs, { left: lent.array, right: lent.array }, { onDevice: true });
  const back = await kernels.toTensor(gpujs, output);
  const result = tf.add(back, tf.scalar(1));
  for (const step of undo) step();
  const values = [...(await result.data())];
  tf.dispose([input, doubled, back, result]);
  lent.release();
  kernels.free(output);
  const sameDevice = gpujs.device === tf.backend().device;
  await gpujs.destroy();
  return { sameDevice, counts, least: Math.min(...values), greatest: Math.max(...values) };
};

document.title = 'ready';
