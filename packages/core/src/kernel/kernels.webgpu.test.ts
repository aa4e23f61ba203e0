import { describe, it } from 'vitest';
import { checkKernelParity, kernelCases } from '@seqloom/testing';
import { setupBackend } from '../index.ts';

describe('composed kernels on webgpu', () => {
  it.each(kernelCases())('equal their oracles: $kernel $options', async (call) => {
    await setupBackend('webgpu');
    await checkKernelParity('webgpu', call);
  });
});
