import { setupBackend } from '@seqloom/core';
import * as kernels from '@seqloom/kernels-gpu/gpujs';
import * as tf from '@tensorflow/tfjs-core';
import { calls, missing } from './calls.mjs';

/** Runs every call in one mode; gives the numbers and what gpu.js says that ran. */
globalThis.runGpujs = async (mode) => {
  const gpujs = await kernels.createGpujs({ mode });
  const results = {};
  for (const [name, call] of Object.entries(calls)) {
    for (const [output, { data }] of Object.entries(await call(gpujs))) results[`${name}: ${output}`] = [...data];
  }
  const report = gpujs.report();
  await gpujs.destroy();
  return { results, report, missing };
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
