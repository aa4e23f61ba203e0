import { beforeAll, describe, it } from 'vitest';
import { checkKernelParity, naiveLinearAttention, uniform64 } from '@seqloom/testing';
import type { LinearAttentionInputs64 } from '@seqloom/testing';
import { setupBackend } from '../backend/setup.ts';
import { linearAttentionUpdate } from './linear-attention.ts';
import type { LinearAttentionInputs, LinearAttentionRule } from './linear-attention.ts';

describe('the composed LinearAttention kernel on webgpu equals its float64 specification', () => {
  beforeAll(async () => {
    await setupBackend('webgpu', { kernels: [] });
  });

  it.each<{ rule: LinearAttentionRule; decay: number[] | null; length: number }>([
    { rule: 'linear', decay: null, length: 65 },
    { rule: 'gated', decay: [], length: 65 },
    { rule: 'gated', decay: [4], length: 65 },
    { rule: 'delta', decay: null, length: 65 },
    { rule: 'gated_delta', decay: [], length: 65 },
    { rule: 'gated_delta', decay: [4], length: 7 },
  ])('$rule, decay of trailing shape $decay, T = $length', async ({ rule, decay, length }) => {
    await checkKernelParity('webgpu', {
      inputs: {
        query: uniform64([1, length, 4, 4], 1),
        key: uniform64([1, length, 2, 4], 2, -0.5, 0.5),
        value: uniform64([1, length, 2, 3], 3),
        state: uniform64([1, 2, 4, 3], 4),
        ...(decay ? { logDecay: uniform64([1, length, 2, ...decay], 5, -3, 0) } : {}),
        ...(rule.endsWith('delta') ? { beta: uniform64([1, length, 2], 6, 0, 1) } : {}),
      },
      run: (tensors) => linearAttentionUpdate(tensors as LinearAttentionInputs, { updateRule: rule }),
      oracle: (arrays) => naiveLinearAttention(arrays as LinearAttentionInputs64, { updateRule: rule }),
      differentiate: ['query', 'key', 'value', 'logDecay', 'beta', 'state'],
    });
  });
});
