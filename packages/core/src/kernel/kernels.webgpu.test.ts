import { describe, it } from 'vitest';
import { checkKernelParity, kernelCases } from '@seqloom/testing';
import { setupBackend } from '../index.ts';

describe('composed kernels on webgpu', () => {
  it.each(kernelCases())('equal their oracles: $kernel $options', async (call) => {
    await setupBackend('webgpu', { kernels: [] });
    await checkKernelParity('webgpu', call);
  });
});

describe('the kernels in use on webgpu', () => {
  it.each(kernelCases())('equal their oracles: $kernel $options', async (call) => {
    // none of them falls back
    await setupBackend('webgpu', { strict: true });
    await checkKernelParity('webgpu', call);
    await setupBackend('webgpu', { strict: false });
  });
});
