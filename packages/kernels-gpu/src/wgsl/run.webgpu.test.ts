import { setupBackend } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { useGpuKernels } from '../use-gpu-kernels.ts';
import type { GpuBackend } from './device.ts';
import { release, runWgsl } from './run.ts';

describe("a shader in tfjs's pass", () => {
  beforeAll(async () => {
    await setupBackend('webgpu', { kernels: [useGpuKernels] });
  });

  it('runs more workgroups than an axis may have, each once and in its place', async () => {
    const groups = [70_001, 2, 1] as const;
    const { places } = runWgsl(tf.backend(), {
      name: 'Places',
      source: `fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
        let place = group.y * uniforms.count + group.x;
        places[place] = f32(place);
      }`,
      workgroupSize: [1],
      workgroups: groups,
      inputs: {},
      outputs: { places: { shape: [groups[0] * groups[1]] } },
      integers: { count: groups[0] },
    });
    const values = (await tf.backend().read(places.dataId)) as Float32Array;
    expect(values.findIndex((value, place) => value !== place)).toBe(-1);
    release(tf.backend(), places);
  });

  it('reads tensors that are still on the host, absent and empty ones, and submits nothing by itself', async () => {
    const backend = tf.backend() as GpuBackend;
    const [fresh, empty] = [tf.tensor1d([1, 2, 3]), tf.tensor1d([])];
    backend.endComputePassEncoder();
    backend.ensureCommandEncoderReady();
    backend.submitQueue();
    let submits = 0;
    const { queue } = backend.device;
    const submit = queue.submit.bind(queue);
    queue.submit = (buffers) => {
      submits++;
      return submit(buffers);
    };
    const call = {
      name: 'Doubled',
      source: `fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
        var value = 2.0 * given[lane];
        if (has_absent) { value += absent[lane]; }
        if (has_empty && arrayLength(&empty) > 100u) { value += empty[lane]; }
        doubled[lane] = value;
      }`,
      workgroupSize: [3],
      workgroups: [1],
      inputs: { given: fresh as tf.TensorInfo, absent: undefined, empty },
      outputs: { doubled: { shape: [3] }, unused: undefined, nothing: { shape: [0, 2], dtype: 'int32' } },
    } as const;
    const first = runWgsl(backend, call);
    const second = runWgsl(backend, { ...call, inputs: { ...call.inputs, given: first.doubled } });
    expect(submits).toBe(0);
    expect([...((await backend.read(second.doubled.dataId)) as Float32Array)]).toEqual([4, 8, 12]);
    expect(submits).toBe(1);
    expect([first.unused, first.nothing.shape, first.nothing.dtype]).toEqual([undefined, [0, 2], 'int32']);
    queue.submit = submit;
    release(backend, first.doubled, first.nothing, second.doubled, second.nothing);
    tf.dispose([fresh, empty]);
  });

  it("sees numbers where tfjs's cast left whole numbers under another name", async () => {
    for (const kernels of [[], [useGpuKernels]]) {
      await setupBackend('webgpu', { kernels });
      // on the device, not on the host
      const whole = tf.add(tf.tensor2d([[3, 4]], [1, 2], 'int32'), tf.tensor2d([[0, 0]], [1, 2], 'int32'));
      const cast = tf.cast(whole, 'float32');
      const { doubled } = runWgsl(tf.backend(), {
        name: 'CastDoubled',
        source: 'fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) { doubled[lane] = 2.0 * given[lane]; }',
        workgroupSize: [2],
        workgroups: [1],
        inputs: { given: cast },
        outputs: { doubled: { shape: [2] } },
      });
      expect([...((await tf.backend().read(doubled.dataId)) as Float32Array)]).toEqual([6, 8]);
      release(tf.backend(), doubled);
      tf.dispose([whole, cast]);
    }
    const turned = tf.tidy(() => {
      const whole = tf.reshape(tf.add(tf.range(0, 24, 1, 'int32'), tf.scalar(0, 'int32')), [2, 3, 4]);
      return tf.transpose(tf.cast(tf.greater(whole, tf.scalar(3, 'int32')), 'float32'), [0, 2, 1]);
    });
    expect((await turned.data()).slice(0, 6)).toEqual(new Float32Array([0, 1, 1, 0, 1, 1]));
    turned.dispose();
  });

  it('submits a pass that has made many bytes', async () => {
    await setupBackend('webgpu', { kernels: [useGpuKernels] });
    const backend = tf.backend() as GpuBackend;
    backend.endComputePassEncoder();
    backend.ensureCommandEncoderReady();
    backend.submitQueue();
    const counts = [];
    for (let round = 0; round < 7; round++) {
      const { made } = runWgsl(backend, {
        name: 'Large',
        source: 'fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) { made[lane] = 1.0; }',
        workgroupSize: [1],
        workgroups: [1],
        inputs: {},
        outputs: { made: { shape: [2 ** 24] } },
      });
      release(backend, made);
      counts.push(backend.dispatchCountInPass);
    }
    // 64 MiB each and the sizes beside them: the fifth makes it more than 256 MiB since the first
    expect(counts).toEqual([1, 2, 3, 4, 0, 1, 2]);
  });

  it('lets more dispatches into a submit, and leaves a number that somebody chose', async () => {
    const flag = 'WEBGPU_DEFERRED_SUBMIT_BATCH_SIZE';
    const kernels = useGpuKernels();
    expect(tf.env().getNumber(flag)).toBe(512);
    kernels.undo();
    expect(tf.env().getNumber(flag)).toBe(512);
    await setupBackend('webgpu', { kernels: [] });
    expect(tf.env().getNumber(flag)).toBe(15);
    tf.env().set(flag, 7);
    const mine = useGpuKernels();
    expect(tf.env().getNumber(flag)).toBe(7);
    mine.undo();
    expect(tf.env().getNumber(flag)).toBe(7);
    tf.env().set(flag, 15);
  });
});
