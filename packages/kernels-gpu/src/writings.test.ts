import { expect, it } from 'vitest';
import { gpuWritings, reasonOfWriting } from './writings.ts';

it('every kernel has a writing, with the reason and what was measured', () => {
  const rows = gpuWritings();
  expect(rows.map(({ kernel }) => kernel)).toEqual(expect.arrayContaining(['MatMul', 'LinearAttention', 'TopKRows', 'AdamWStep']));
  for (const { kernel, writing, gpujsTime, adapter, emulated, reason } of rows) {
    expect(writing).toBe('wgsl');
    expect(reason).toContain('gpu.js answers by promises');
    expect(reason.includes(adapter)).toBe(gpujsTime !== null);
    expect(reason.includes('(emulated)')).toBe(gpujsTime !== null && emulated);
    expect(reasonOfWriting(`${kernel}Grad`)).toBe(reason);
  }
  expect(reasonOfWriting('NoSuchKernel')).toBeUndefined();
});
