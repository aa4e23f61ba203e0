import type { Tensor } from '@tensorflow/tfjs-core';
import { fail } from '@seqloom/core/error';
import { isOnDevice } from './array.ts';
import type { GpujsArray } from './array.ts';
import type { Gpujs } from './run.ts';

/** What is read of tfjs's WebGPUBackend. */
interface TensorflowBackend {
  readonly device: GPUDevice;
  readonly tensorMap: { has(dataId: object): boolean; get(dataId: object): { readonly resource: GPUBuffer | null | undefined } };
}

/** A tensor seen by gpu.js. */
export interface LentTensor {
  readonly array: GpujsArray;
  /** lets go of the buffer; the tensor itself is not touched */
  release(): void;
}

/**
 * Gives a tensor of tfjs's backend webgpu to gpu.js without a read-back.
 *
 * tfjs hands out a copy on the device (`dataToGPU`), so the tensor may be disposed before gpu.js has used its numbers. A tensor whose numbers
 * are still on the host is uploaded by gpu.js, as any Float32Array is.
 *
 * @throws SeqLoomError when the tensor is not float32 or the two run on different devices
 */
export async function fromTensor(gpujs: Gpujs, tensor: Tensor): Promise<LentTensor> {
  const tf = await import('@tensorflow/tfjs-core');
  const shape = [...tensor.shape];
  if (tensor.dtype !== 'float32') {
    fail({
      mechanism: 'fromTensor',
      argument: 'tensor',
      wanted: 'float32, the one type of gpu.js',
      given: tensor.dtype,
      remedy: 'Use tf.cast, or pass an Int32Array.',
    });
  }
  // findBackend would start one that is registered but not in use
  const backend = tf.engine().registry.webgpu as unknown as TensorflowBackend | undefined;
  // asking for the data of a tensor that lives elsewhere would move it here
  const resource = backend?.tensorMap.has(tensor.dataId) ? backend.tensorMap.get(tensor.dataId).resource : null;
  if (!backend || !resource) return { array: { shape, data: await tensor.data<'float32'>() }, release: () => undefined };
  if (backend.device !== gpujs.device) {
    fail({
      mechanism: 'fromTensor',
      argument: 'gpujs',
      wanted: "on the tensor's device",
      given: gpujs.device ? 'another WebGPU device' : `in the mode ${gpujs.mode}`,
      remedy: "Call setupBackend('webgpu') before createGpujs({ mode: 'webgpu' }), or pass createGpujs the device of tfjs's backend.",
    });
  }
  const { buffer, tensorRef } = tensor.dataToGPU();
  return { array: gpujs.fromBuffer(buffer!, shape), release: () => tensorRef.dispose() };
}

/**
 * Makes a tensor of tfjs's backend webgpu from an array on the device: the same buffer, no copy, no read-back.
 *
 * The buffer goes on belonging to the array: dispose the tensor first, then `free` the array.
 *
 * @throws SeqLoomError when the array is on the host or tfjs runs on another backend or device
 */
export async function toTensor(gpujs: Gpujs, array: GpujsArray): Promise<Tensor> {
  const tf = await import('@tensorflow/tfjs-core');
  if (!isOnDevice(array)) {
    return fail({
      mechanism: 'toTensor',
      argument: 'array',
      wanted: 'on the device',
      given: 'a Float32Array',
      remedy: 'Call the kernel with { onDevice: true }, or use tf.tensor(array.data, array.shape).',
    });
  }
  const { device } = tf.backend() as unknown as { device?: GPUDevice };
  if (tf.getBackend() !== 'webgpu' || device !== gpujs.device) {
    fail({
      mechanism: 'toTensor',
      argument: "tfjs's backend",
      wanted: 'webgpu, on the device of gpu.js',
      given: tf.getBackend() === 'webgpu' ? 'webgpu on another device' : tf.getBackend(),
      remedy: "Call setupBackend('webgpu') before createGpujs({ mode: 'webgpu' }).",
    });
  }
  return tf.tensor({ buffer: array.data.buffer, zeroCopy: true }, [...array.shape]);
}
