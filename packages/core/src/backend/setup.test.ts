import * as tf from '@tensorflow/tfjs-core';
import { afterEach, describe, expect, it } from 'vitest';
import { SeqLoomError } from '../error.ts';
import { rmsNorm, rmsNormKernel } from '../kernel/rms-norm.ts';
import { resetKernelRuns } from '../kernel/report.ts';
import { explain, setupBackend } from './setup.ts';

afterEach(() => {
  if (tf.findBackend('tensorflow')) tf.removeBackend('tensorflow');
  resetKernelRuns();
});

function norm(): number[] {
  return tf.tidy(() => [...rmsNorm({ input: tf.tensor2d([[3, 4]]) }).dataSync()]);
}

describe('setupBackend', () => {
  it('sets up wasm and cpu by name, and says why the others were not tried', async () => {
    const found = await setupBackend('wasm', { kernels: [] });
    expect(tf.getBackend()).toBe('wasm');
    expect(found).toMatchObject({ backend: 'wasm', kernelPackages: [] });
    expect(found.candidates.map(({ backend, status }) => `${backend} ${status}`)).toEqual([
      'wasm chosen',
      'tensorflow not tried',
      'webgpu not tried',
      'cpu not tried',
    ]);
    expect((await setupBackend('cpu')).backend).toBe('cpu');
  });

  it('chooses the best present and gives the reason against each better one', async () => {
    const found = await setupBackend('auto', { kernels: [] });
    expect(found.reason).toMatch(/^best present: /);
    for (const candidate of found.candidates.filter(({ status }) => status === 'unavailable')) {
      expect(candidate.reason.length).toBeGreaterThan(10);
    }
    expect(found.candidates.filter(({ status }) => status === 'chosen')).toHaveLength(1);
  });

  it('reports composed kernels, and in strict mode refuses them', async () => {
    await setupBackend('wasm', { kernels: [] });
    norm();
    expect(explain().kernels).toMatchObject([{ kernel: 'RmsNorm', backend: 'wasm', implementation: { kind: 'composed' }, calls: 1 }]);
    await setupBackend('wasm', { kernels: [], strict: true });
    expect(norm).toThrow(/RmsNorm: implementation must be fused on backend wasm \(strict mode is on\)/);
    await setupBackend('wasm', { kernels: [], strict: false });
    expect(norm()[0]).toBeCloseTo(3 / Math.sqrt(12.5), 5);
  });

  it('shows why a kernel runs in its form, where its package says so', async () => {
    const run: typeof rmsNormKernel.definition.composed = ({ input }) => ({ output: tf.clone(input) });
    const use = () => ({
      label: 'fast kernels',
      undo: rmsNormKernel.implement({ backend: 'wasm', label: 'fast kernels', forward: ({ inputs }) => run(inputs, {} as never) }),
      why: (kernel: string) => (kernel === 'RmsNorm' ? 'it is faster' : undefined),
    });
    await setupBackend('wasm', { kernels: [use] });
    expect(norm()).toEqual([3, 4]);
    expect(explain().kernels).toEqual([
      { kernel: 'RmsNorm', backend: 'wasm', implementation: { kind: 'fused', label: 'fast kernels' }, calls: 1, why: 'it is faster' },
    ]);
    await setupBackend('wasm', { kernels: [] });
    expect(explain().kernels[0]).not.toHaveProperty('why');
  });

  it('refuses an unknown name and an absent backend, and keeps the one in use', async () => {
    await setupBackend('cpu');
    await expect(setupBackend('cuda' as 'cpu')).rejects.toThrow(
      'setupBackend: backend must be one of auto, tensorflow, webgpu, wasm, cpu; got "cuda"',
    );
    const error = await setupBackend('tensorflow').catch((reason: unknown) => reason as SeqLoomError);
    expect(error).toBeInstanceOf(SeqLoomError);
    expect((error as SeqLoomError).given).toContain('@tensorflow/tfjs-node is not installed');
    expect((error as SeqLoomError).remedy).toContain('npm install @tensorflow/tfjs-node');
    expect(tf.getBackend()).toBe('cpu');
    expect(norm()[1]).toBeCloseTo(4 / Math.sqrt(12.5), 5);
  });

  it('uses a tensorflow backend that is registered, with the composed kernels', async () => {
    // a stand-in: tfjs's cpu kernels under the native backend's name
    await setupBackend('cpu');
    const cpu = tf.findBackendFactory('cpu');
    tf.registerBackend('tensorflow', () => cpu() as tf.KernelBackend);
    tf.copyRegisteredKernels('cpu', 'tensorflow');
    const found = await setupBackend('auto');
    expect(found).toMatchObject({ backend: 'tensorflow', reason: 'best present: a tensorflow backend is registered' });
    expect(norm()[0]).toBeCloseTo(3 / Math.sqrt(12.5), 5);
    expect(explain().kernels).toMatchObject([{ kernel: 'RmsNorm', backend: 'tensorflow', implementation: { kind: 'composed' } }]);
    await setupBackend('cpu');
  });
});
