import { fail } from '@seqloom/core/error';
import { findGpu, sharedWebGpuDevice } from '@seqloom/core/web-gpu';
import type { GpujsContext, GpujsModule } from './load.ts';

/**
 * Lets gpu.js run on a device that exists already, so that its kernels and tfjs's see the same buffers.
 *
 * gpu.js asks `navigator.gpu` for an adapter once, and the adapter for a device. For the length of that one call `requestAdapter` hands out an
 * adapter whose device is the given one; `navigator.gpu` is as before when this function returns its promise.
 *
 * @param given the device, by default that of `setupBackend('webgpu')`; where there is none, gpu.js requests its own
 * @returns the context that every WebGPU kernel of gpu.js shares
 * @throws SeqLoomError when this runtime has no WebGPU, or when gpu.js runs on another device already
 */
export async function acquireDevice(gpujs: GpujsModule, given?: GPUDevice): Promise<GpujsContext> {
  const device = given ?? sharedWebGpuDevice()?.device;
  const gpu = await findGpu();
  if (!gpu) {
    return fail({
      mechanism: 'createGpujs',
      argument: 'mode',
      wanted: 'one that this runtime has',
      given: 'webgpu, but there is no navigator.gpu',
      remedy: 'In Node npm install webgpu; in a browser serve the page over HTTPS; or use the mode webasm.',
    });
  }
  const context = await (device ? acquireFrom(gpujs, gpu, device) : gpujs.WebGPUContext.acquire());
  if (device && context.device !== device) {
    return fail({
      mechanism: 'createGpujs',
      argument: 'device',
      wanted: 'the one that gpu.js runs on',
      given: 'another: gpu.js acquired a device of its own before',
      remedy: 'Call createGpujs before any other WebGPU kernel of gpu.js, or WebGPUContext.destroy() of gpu.js first.',
    });
  }
  return context;
}

function acquireFrom(gpujs: GpujsModule, gpu: GPU, device: GPUDevice): Promise<GpujsContext> {
  const adapter = { limits: device.limits, features: device.features, requestDevice: async () => device };
  const own = Object.getOwnPropertyDescriptor(gpu, 'requestAdapter');
  // gpu.js listens here too; who listened before goes on
  const listener = device.onuncapturederror;
  Object.defineProperty(gpu, 'requestAdapter', { value: async () => adapter, configurable: true });
  try {
    // the adapter is asked for before the first await in there
    return gpujs.WebGPUContext.acquire().then((context) => {
      if (listener) device.onuncapturederror = listener;
      return context;
    });
  } finally {
    if (own) Object.defineProperty(gpu, 'requestAdapter', own);
    else Reflect.deleteProperty(gpu, 'requestAdapter');
  }
}
