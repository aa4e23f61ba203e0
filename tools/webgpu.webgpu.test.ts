import { WebGPUBackend } from '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { create, globals } from 'webgpu';

let adapter: GPUAdapter | null = null;

beforeAll(async () => {
  Object.assign(globalThis, globals);
  // tfjs-webgpu refuses to start where the navigator has no gpu
  Object.defineProperty(navigator, 'gpu', { value: create([]), configurable: true });
  adapter = await navigator.gpu.requestAdapter();
});
afterAll(() => tf.disposeVariables());

// the tier must not turn green on a machine where no GPU test ran
test('Dawn finds an adapter', () => {
  expect(adapter, 'No WebGPU adapter: install chromium and libvulkan1, or point VK_ICD_FILENAMES at a Vulkan driver').not.toBeNull();
});

test('tfjs-webgpu multiplies on that adapter', async () => {
  const features = ['shader-f16', 'timestamp-query'].filter((name) => adapter!.features.has(name)) as GPUFeatureName[];
  const { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup } = adapter!.limits;
  const requiredLimits = { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup };
  const device = await adapter!.requestDevice({ requiredFeatures: features, requiredLimits });
  tf.registerBackend('webgpu', () => new WebGPUBackend(device, adapter!.info));
  await tf.setBackend('webgpu');
  // small tensors would otherwise be computed on the cpu, and prove nothing
  tf.env().set('WEBGPU_CPU_FORWARD', false);
  const n = 33;
  const left = Float32Array.from({ length: n * n }, (_, i) => Math.sin(i));
  const right = Float32Array.from({ length: n * n }, (_, i) => Math.cos(3 * i));
  const product = await tf.tidy(() => tf.matMul(tf.tensor2d(left, [n, n]), tf.tensor2d(right, [n, n]))).data();
  for (const [row, column] of [
    [0, 0],
    [7, 31],
    [32, 32],
  ] as const) {
    let sum = 0;
    for (let k = 0; k < n; k++) sum += left[row * n + k] * right[k * n + column];
    expect(product[row * n + column]).toBeCloseTo(sum, 4);
  }
  tf.removeBackend('webgpu');
  device.destroy();
});
