import { rmsNorm, setupBackend } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { useGpuKernels } from '../use-gpu-kernels.ts';
import type { GpuBackend } from './device.ts';
import { runWgsl } from './run.ts';

const deviceInUse = (): GPUDevice => (tf.backend() as GpuBackend).device;

async function norm(): Promise<number[]> {
  const input = tf.tensor2d([[3, 4]]);
  const output = rmsNorm({ input });
  const values = [...(await output.data())];
  tf.dispose([input, output]);
  return values;
}

describe('a device that fails', () => {
  it('is named by the next kernel call once it is lost, and a new set-up recovers', async () => {
    await setupBackend('webgpu', { kernels: [useGpuKernels], strict: true });
    const wanted = [3 / Math.sqrt(12.5), 4 / Math.sqrt(12.5)].map((value) => expect.closeTo(value, 5));
    expect(await norm()).toEqual(wanted);
    const old = deviceInUse();
    old.destroy();
    await old.lost;
    await expect(norm()).rejects.toThrow(
      /RmsNorm\): device must be a GPU device that works; got one that is lost .*setupBackend\('webgpu'\)/,
    );
    await setupBackend('webgpu', { kernels: [useGpuKernels], strict: true });
    expect(deviceInUse()).not.toBe(old);
    expect(await norm()).toEqual(wanted);
  });

  it('says which shader it refused, and which tensors are too large or too many for it', async () => {
    await setupBackend('webgpu', { kernels: [useGpuKernels] });
    const run = (source: string, shape: number[]) =>
      runWgsl(tf.backend(), {
        name: 'Broken',
        source,
        workgroupSize: [1],
        workgroups: [1],
        inputs: {},
        outputs: { output: { shape } },
      });
    const limit = deviceInUse().limits.maxStorageBufferBindingSize;
    expect(() => run('', [limit / 4 + 1])).toThrow(/output must be at most \d+ bytes/);
    const inputs = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`input${index}`, undefined]));
    const many = { name: 'Many', source: '', workgroupSize: [1], workgroups: [1], inputs, outputs: {} } as const;
    expect(() => runWgsl(tf.backend(), many)).toThrow(/tensors must be at most \d+/);
    const made = run('fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) { output[0] = nothing; }', [1]).output;
    tf.backend().disposeData(made.dataId, true);
    await deviceInUse().queue.onSubmittedWorkDone();
    await expect(norm()).rejects.toThrow(/shader must be one that this device accepts; got Broken: .*nothing/s);
  });

  it('says that memory ran out, once, and goes on when there is some again', async () => {
    await setupBackend('webgpu', { kernels: [useGpuKernels], strict: true });
    await norm();
    const device = deviceInUse();
    const size = device.limits.maxBufferSize;
    const held: GPUBuffer[] = [];
    let said = false;
    device.addEventListener('uncapturederror', () => (said = true));
    // a real one, of the device's making: buffers until there is no room
    for (let count = 0; count < 64 && !said; count++) {
      held.push(device.createBuffer({ size, usage: GPUBufferUsage.STORAGE }));
      await device.queue.onSubmittedWorkDone();
    }
    for (const buffer of held) buffer.destroy();
    if (!said) device.dispatchEvent(new GPUUncapturedErrorEvent('uncapturederror', { error: new GPUOutOfMemoryError('no room') }));
    await expect(norm()).rejects.toThrow(/RmsNorm\): memory must be .* out of memory .*; results since then are not valid/);
    const wanted = [3 / Math.sqrt(12.5), 4 / Math.sqrt(12.5)].map((value) => expect.closeTo(value, 5));
    expect(await norm()).toEqual(wanted);
  });
});
