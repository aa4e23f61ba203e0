import { explain, linearScan, resetKernelRuns, setupBackend } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';
import { createGpujs } from './gpujs/index.ts';
import { loadGpujs } from './gpujs/load.ts';
import { gpuWritings } from './writings.ts';

beforeAll(async () => {
  await setupBackend('webgpu');
});

it('explain() says of every kernel that ran, its gradient too, which writing it was and why', () => {
  resetKernelRuns();
  const x = tf.ones([1, 5, 2]);
  const [gradient] = tf.grads((input) => tf.sum(linearScan({ decay: x, input }).hidden))([x]);
  const { reason } = gpuWritings().find(({ kernel }) => kernel === 'LinearScan')!;
  expect(explain().kernels).toMatchObject(
    ['LinearScan', 'LinearScanGrad'].map((kernel) => ({
      kernel,
      implementation: { kind: 'fused', label: expect.stringMatching(/^kernels-gpu \(wgsl/) as string },
      why: reason,
    })),
  );
  tf.dispose([x, gradient!]);
});

it('a gpu.js kernel cannot be a tfjs kernel: its first call computes nothing before it returns, and results come by promises', async () => {
  const gpujs = await createGpujs({ mode: 'webgpu' });
  const { GPU, Input } = await loadGpujs();
  const gpu = new GPU({ mode: 'webgpu' });
  const settings = { output: [4], pipeline: true, immutable: true, argumentTypes: { x: 'Input' } };
  const kernel = gpu.createKernel('function (x) { return x[0][0][this.thread.x] + 1; }', settings);
  const queue = GPUQueue.prototype;
  const original = Object.getOwnPropertyDescriptor(queue, 'submit')!;
  const submit = original.value as GPUQueue['submit'];
  let submits = 0;
  queue.submit = function (this: GPUQueue, buffers) {
    submits++;
    return submit.call(this, buffers);
  };
  try {
    const counts: number[] = [];
    for (let call = 0; call < 2; call++) {
      const pending = kernel(new Input(Float32Array.of(1, 2, 3, 4), [4, 1, 1]));
      counts.push(submits);
      expect(pending).toBeInstanceOf(Promise);
      ((await pending) as { delete(): void }).delete();
    }
    // the shader is compiled behind promises; a second call submits before it returns, but hands its buffer over by a promise, too
    expect(counts).toEqual([0, 2]);
  } finally {
    Object.defineProperty(queue, 'submit', original);
    await gpu.destroy();
    await gpujs.destroy();
  }
});
