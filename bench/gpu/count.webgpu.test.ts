import { rmsNorm, setupBackend } from '@seqloom/core';
import { useGpuKernels } from '@seqloom/kernels-gpu';
import { createGpujs, free, rmsNorm as rmsNormInGpujs } from '@seqloom/kernels-gpu/gpujs';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { countGpu } from './count.ts';
import { gpuBackend } from './device.ts';

describe('what a call asks of the GPU', () => {
  let input: tf.Tensor;
  beforeAll(async () => {
    await setupBackend('webgpu', { kernels: [useGpuKernels] });
    tf.env().set('WEBGPU_CPU_FORWARD', false);
    const ones = tf.ones([64, 32]);
    input = tf.add(ones, ones);
    rmsNorm({ input }).dispose();
  });

  it('counts dispatches, submits, read-backs and copies, and what was encoded before not', async () => {
    const before = tf.square(input);
    const twice = await countGpu(gpuBackend(), () => {
      for (let call = 0; call < 2; call++) rmsNorm({ input }).dispose();
    });
    expect(twice).toMatchObject({ dispatches: 2, submits: 1, maps: 0, copies: 0 });
    const read = await countGpu(gpuBackend(), async () => {
      const output = rmsNorm({ input });
      await output.data();
      output.dispose();
    });
    // tfjs copies into a buffer that can be mapped
    expect(read).toMatchObject({ dispatches: 1, submits: 1, maps: 1, copies: 1 });
    before.dispose();
  });

  it('sees the bytes of buffers, from the pool too, and the largest of them', async () => {
    const bytes = 4 * 64 * 32;
    const one = await countGpu(gpuBackend(), () => rmsNorm({ input }).dispose());
    // beside the output stand the sizes of the call
    expect(one.largestBuffer).toBe(bytes);
    expect(one.peakBytes - bytes).toBeGreaterThan(0);
    expect(one.peakBytes - bytes).toBeLessThan(512);
    const both = await countGpu(gpuBackend(), () => {
      const wide = tf.concat([input, input]);
      rmsNorm({ input: wide }).dispose();
      wide.dispose();
    });
    expect(both.largestBuffer).toBe(2 * bytes);
    expect(both.peakBytes).toBeGreaterThan(4 * bytes);
  });

  it('sees what gpu.js does on the same device, and leaves no trace', async () => {
    const before = [GPUQueue.prototype.submit, GPUDevice.prototype.createBuffer, GPUBuffer.prototype.destroy];
    const gpujs = await createGpujs({ mode: 'webgpu' });
    const data = { shape: [8, 4], data: new Float32Array(32).fill(0.5) };
    const run = async (): Promise<void> => {
      const { output } = await rmsNormInGpujs(gpujs, { input: data }, { onDevice: true });
      free(output);
    };
    await run();
    const counts = await countGpu(gpuBackend(), run);
    // a sum per row, and what it scales
    expect(counts).toMatchObject({ dispatches: 2, submits: 2, maps: 0, copies: 0, largestBuffer: 4 * 32 });
    await gpujs.destroy();
    const failing = countGpu(gpuBackend(), () => {
      throw new Error('stop');
    });
    await expect(failing).rejects.toThrow('stop');
    expect([GPUQueue.prototype.submit, GPUDevice.prototype.createBuffer, GPUBuffer.prototype.destroy]).toEqual(before);
    expect(Object.hasOwn(gpuBackend().bufferManager, 'acquireBuffer')).toBe(false);
  });
});
