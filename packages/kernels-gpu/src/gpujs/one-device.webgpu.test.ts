import { setupBackend } from '@seqloom/core';
import { sharedWebGpuDevice } from '@seqloom/core/web-gpu';
import { closenessFault, naiveLinearScan, naiveRmsNorm, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createGpujs,
  free,
  fromTensor,
  linearAttention,
  linearScan,
  matmul,
  rmsNorm,
  softmaxAttention,
  softmaxAttentionGradient,
  toTensor,
} from './index.ts';
import type { Gpujs, GpujsArray } from './index.ts';

/** Calls of one method while it is watched. */
interface Counter {
  count: number;
  stop(): void;
}

function countCalls(prototype: object, method: string): Counter {
  const target = prototype as Record<string, (...values: unknown[]) => unknown>;
  const original = target[method]!;
  const counter: Counter = { count: 0, stop: () => void (target[method] = original) };
  target[method] = function counted(this: unknown, ...values: unknown[]) {
    counter.count += 1;
    return original.apply(this, values);
  };
  return counter;
}

describe('one GPUDevice for tfjs and gpu.js', () => {
  let gpujs: Gpujs;
  let flag: boolean;
  beforeAll(async () => {
    await setupBackend('webgpu');
    flag = tf.env().getBool('WEBGPU_CPU_FORWARD');
    // tfjs would compute these small tensors on the host
    tf.env().set('WEBGPU_CPU_FORWARD', false);
    gpujs = await createGpujs({ mode: 'webgpu' });
  });
  afterAll(async () => {
    tf.env().set('WEBGPU_CPU_FORWARD', flag);
    await gpujs.destroy();
  });

  it('gpu.js runs on the device of setupBackend, and navigator.gpu is as before', async () => {
    const { device } = tf.backend() as unknown as { device: GPUDevice };
    expect(gpujs.device).toBe(device);
    expect(sharedWebGpuDevice()?.device).toBe(device);
    expect(Object.hasOwn(navigator.gpu, 'requestAdapter')).toBe(false);
    const adapter = await navigator.gpu.requestAdapter();
    expect(adapter).toBeInstanceOf(GPUAdapter);
  });

  it('a tensor goes through gpu.js kernels and back into tfjs with no read-back', async () => {
    const [input, decay] = [uniform64([2, 5, 4], 1), uniform64([2, 5, 4], 2, 0.2, 1)];
    const [x, a] = [tf.tensor3d([...input.data], [2, 5, 4]), tf.tensor3d([...decay.data], [2, 5, 4])];
    const doubled = tf.mul(x, tf.scalar(2)) as tf.Tensor3D;
    const decays = tf.add(a, tf.scalar(0)) as tf.Tensor3D;
    const run = async (): Promise<{ result: tf.Tensor; release: () => void }> => {
      const [lent, lentDecay] = [await fromTensor(gpujs, doubled), await fromTensor(gpujs, decays)];
      const { output } = await rmsNorm(gpujs, { input: lent.array }, { onDevice: true });
      const { hidden, state } = await linearScan(gpujs, { decay: lentDecay.array, input: output }, { onDevice: true });
      const back = await toTensor(gpujs, hidden);
      const result = tf.add(back, tf.scalar(1));
      back.dispose();
      lent.release();
      lentDecay.release();
      return { result, release: () => free(output, hidden, state) };
    };
    // the first run compiles
    const first = await run();
    first.result.dispose();
    first.release();
    const maps = countCalls(GPUBuffer.prototype, 'mapAsync');
    const copies = countCalls(GPUCommandEncoder.prototype, 'copyBufferToBuffer');
    const submits = countCalls(GPUQueue.prototype, 'submit');
    const { result, release } = await run();
    const counts = { mapAsync: maps.count, copyBufferToBuffer: copies.count, submit: submits.count };
    const values = await result.data();
    const afterReading = maps.count;
    for (const counter of [maps, copies, submits]) counter.stop();
    release();
    // one read-back in all: that of the final result
    expect(afterReading).toBe(1);
    process.stdout.write(`tensor -> gpu.js (RMS norm, linear scan) -> tensor, two tensors lent: ${JSON.stringify(counts)}\n`);
    // the copies are tfjs's dataToGPU, on the device, one per lent tensor
    expect(counts).toMatchObject({ mapAsync: 0, copyBufferToBuffer: 2 });
    const normed = naiveRmsNorm({ input: { shape: input.shape, data: input.data.map((value) => 2 * value) } }).output;
    const wanted = naiveLinearScan({ decay, input: normed }).hidden.data.map((value) => value + 1);
    expect(closenessFault('hidden', { shape: null, data: values }, { shape: null, data: wanted }, { rms: 2e-5 })).toBeNull();
    tf.dispose([x, a, doubled, decays, result]);
  });

  it('a plan on plain arrays is one submit and one map', async () => {
    const data = { shape: [1, 64, 8], data: new Float32Array(512).fill(0.5) };
    await linearScan(gpujs, { decay: data, input: data });
    const submits = countCalls(GPUQueue.prototype, 'submit');
    const maps = countCalls(GPUBuffer.prototype, 'mapAsync');
    await linearScan(gpujs, { decay: data, input: data });
    for (const counter of [maps, submits]) counter.stop();
    process.stdout.write(`linear scan of 64 steps on plain arrays, 15 kernel runs: ${submits.count} submit, ${maps.count} mapAsync\n`);
    expect([submits.count, maps.count]).toEqual([1, 1]);
    expect(gpujs.report().find(({ kernel }) => kernel === 'linearScan')).toMatchObject({
      backend: 'webgpu',
      executor: 'fused-encoder',
      reason: null,
    });
  });

  it('nothing leaks: tensors and buffers are as many as before', async () => {
    const x = tf.add(tf.ones([4, 4]), tf.scalar(0));
    const before = tf.memory().numTensors;
    const lent = await fromTensor(gpujs, x);
    const { output } = await matmul(gpujs, { left: lent.array, right: lent.array }, { onDevice: true });
    const back = await toTensor(gpujs, output);
    expect([...(await back.data())]).toEqual(Array.from({ length: 16 }, () => 4));
    back.dispose();
    free(output);
    lent.release();
    expect(tf.memory().numTensors).toBe(before);
    x.dispose();
  });

  it('chains on the device give what plans give', async () => {
    const host = (array: Array64): GpujsArray => ({ shape: array.shape, data: Float32Array.from(array.data) });
    const [query, key] = [host(uniform64([2, 9, 4, 4], 1)), host(uniform64([2, 9, 2, 4], 2))];
    const [value, cotangent] = [host(uniform64([2, 9, 2, 3], 3)), host(uniform64([2, 9, 4, 3], 4))];
    const [logDecay, beta] = [host(uniform64([2, 9, 2], 5, -1, 0)), host(uniform64([2, 9, 2], 6, 0, 1))];
    const results = await Promise.all(
      [false, true].map(async (onDevice) => {
        const options = { causal: true, blockSize: 4, onDevice };
        const attended = await softmaxAttention(gpujs, { query, key, value }, options);
        const gradients = await softmaxAttentionGradient(gpujs, { query, key, value, cotangent, ...attended }, options);
        const rule = { updateRule: 'gated_delta', chunkSize: 4, onDevice } as const;
        const linear = await linearAttention(gpujs, { query, key, value, logDecay, beta }, rule);
        const arrays = [...Object.values(attended), ...Object.values(gradients), ...Object.values(linear)];
        const read = await Promise.all(arrays.map(async (array) => gpujs.toHost(array)));
        free(...arrays);
        return read;
      }),
    );
    expect(results[0]).toHaveLength(7);
    expect(results[1]).toEqual(results[0]);
  });

  it('a chain on the device creates as many buffers as it destroys', async () => {
    const data = { shape: [1, 9, 8], data: new Float32Array(72).fill(0.5) };
    const run = async (): Promise<void> => {
      const { output } = await rmsNorm(gpujs, { input: data }, { onDevice: true });
      const { hidden, state } = await linearScan(gpujs, { decay: output, input: output }, { onDevice: true });
      free(output, hidden, state);
    };
    await run();
    const [created, destroyed] = [countCalls(GPUDevice.prototype, 'createBuffer'), countCalls(GPUBuffer.prototype, 'destroy')];
    await run();
    for (const counter of [created, destroyed]) counter.stop();
    expect(created.count).toBeGreaterThan(0);
    expect(destroyed.count).toBe(created.count);
  });

  it('a tensor whose numbers are on the host is uploaded, one that is not float32 refused', async () => {
    const x = tf.tensor2d([1, 2, 3, 4], [2, 2]);
    const { array } = await fromTensor(gpujs, x);
    const { output } = await matmul(gpujs, { left: array, right: array });
    expect([...(output.data as Float32Array)]).toEqual([7, 10, 15, 22]);
    const whole = tf.tensor1d([1, 2], 'int32');
    await expect(fromTensor(gpujs, whole)).rejects.toThrow('fromTensor: tensor must be float32, the one type of gpu.js; got int32');
    await expect(toTensor(gpujs, array)).rejects.toThrow('toTensor: array must be on the device; got a Float32Array');
    tf.dispose([x, whole]);
  });

  it('refuses a second device', async () => {
    const adapter = await navigator.gpu.requestAdapter();
    const device = await adapter!.requestDevice();
    await expect(createGpujs({ mode: 'webgpu', device })).rejects.toThrow('createGpujs: device must be the one that gpu.js runs on');
    device.destroy();
  });

  it('what does not fit the device is refused before any work', async () => {
    const batch = gpujs.device!.limits.maxComputeWorkgroupsPerDimension + 1;
    const array = { shape: [batch, 1, 1], data: new Float32Array(batch) };
    await expect(linearScan(gpujs, { decay: array, input: array })).rejects.toThrow(`linearScan: extent z must be at most ${batch - 1}`);
  });

  it('after the loss of the device: one clear error, and a new set-up works', async () => {
    gpujs.device!.destroy();
    await gpujs.device!.lost;
    const data = { shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) };
    await expect(matmul(gpujs, { left: data, right: data })).rejects.toThrow('matmul: device must be alive; got a device that was lost');
    await setupBackend('webgpu');
    const fresh = await createGpujs({ mode: 'webgpu' });
    expect(fresh.device).not.toBe(gpujs.device);
    expect(fresh.device).toBe(sharedWebGpuDevice()?.device);
    const { output } = await matmul(fresh, { left: data, right: data });
    expect([...(output.data as Float32Array)]).toEqual([7, 10, 15, 22]);
    await fresh.destroy();
  });
});
