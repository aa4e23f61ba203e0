import * as tf from '@tensorflow/tfjs-core';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setupBackend } from '@seqloom/core';
import { sharedWebGpuDevice } from '@seqloom/core/web-gpu';
import { useGpuKernels } from '@seqloom/kernels-gpu';
import { softwareVulkan } from '../../tools/chromium.ts';
import type { Candidate, Outputs } from '../measure/candidate.ts';
import { COMPOSED, OURS } from '../measure/candidate.ts';
import type { Started } from '../measure/suite.ts';
import { countGpu, flush } from './count.ts';
import type { WatchedBackend } from './count.ts';

/** Backend names: one device of tfjs-webgpu under two names, with the kernels of kernels-gpu and without. */
export const GPU_BACKEND = 'webgpu';
export const PLAIN_GPU_BACKEND = 'webgpu-plain';

const SUBMIT_FLAG = 'WEBGPU_DEFERRED_SUBMIT_BATCH_SIZE';
/** dispatches per submit under each name: the number that kernels-gpu chose, and tfjs's own */
const dispatchesPerSubmit = new Map<string, number>();

/**
 * Starts tfjs-webgpu, copies its kernels to a second name, then installs kernels-gpu under the first.
 *
 * Where a machine has no graphics device the software GPU of Chromium serves, if that is installed.
 *
 * @throws SeqLoomError when there is no adapter at all
 */
export async function startWebGpu(): Promise<Started> {
  const devices = ['/dev/dri', '/dev/nvidia0', '/dev/dxg', '/dev/kfd'];
  const driver = process.platform === 'linux' && !devices.some((path) => existsSync(path)) ? softwareVulkan() : undefined;
  if (driver) process.env.VK_ICD_FILENAMES ??= driver;
  await setupBackend(GPU_BACKEND, { kernels: [] });
  const backend = tf.backend();
  dispatchesPerSubmit.set(PLAIN_GPU_BACKEND, tf.env().getNumber(SUBMIT_FLAG));
  tf.registerBackend(PLAIN_GPU_BACKEND, () => backend);
  tf.copyRegisteredKernels(GPU_BACKEND, PLAIN_GPU_BACKEND);
  const { label } = useGpuKernels();
  dispatchesPerSubmit.set(GPU_BACKEND, tf.env().getNumber(SUBMIT_FLAG));
  const { label: adapter, software } = sharedWebGpuDevice()!;
  return {
    kernels: label,
    gpu: { adapter, software },
    peak: null,
    loop: null,
    versions: Object.fromEntries(['@tensorflow/tfjs-backend-webgpu', 'gpu.js', 'webgpu'].map((name) => [name, versionOf(name)])),
    // an emulated GPU takes seconds for what a real one does in milliseconds
    timing: software ? { samples: 5, warmMs: 0, budgetMs: 500 } : {},
  };
}

// where kernels-gpu finds them; this folder has packages of its own
const require = createRequire(new URL('../../packages/kernels-gpu/package.json', import.meta.url));

function versionOf(name: string): string {
  // some packages do not export their manifest
  const folder = require.resolve.paths(name)!.find((path) => existsSync(`${path}/${name}/package.json`));
  return (JSON.parse(readFileSync(`${folder}/${name}/package.json`, 'utf8')) as { version: string }).version;
}

/** tfjs's webgpu backend. */
export const gpuBackend = (): WatchedBackend => tf.backend() as WatchedBackend;

/** Waits until the device has done everything that was asked of it. */
export async function finishGpu(): Promise<void> {
  const backend = gpuBackend();
  flush(backend);
  await backend.device.queue.onSubmittedWorkDone();
}

/** What every candidate on the device has beside its call. */
export function onGpu(backend: string, run: () => void | Promise<void>): Pick<Candidate, 'backend' | 'enter' | 'finish' | 'count' | 'run'> {
  return {
    backend,
    run,
    enter: () => tf.env().set(SUBMIT_FLAG, dispatchesPerSubmit.get(backend)!),
    finish: finishGpu,
    async count() {
      const { dispatches, submits, maps, copies, peakBytes, largestBuffer } = await countGpu(gpuBackend(), run);
      return { dispatches, submits, [READ_BACKS]: maps, copies, [PEAK_BYTES]: peakBytes, 'largest buffer': largestBuffer };
    },
  };
}

/** Names of two counts, for the floors that read them. */
export const READ_BACKS = 'read-backs';
export const PEAK_BYTES = 'peak bytes';

/** A candidate that runs tfjs ops on the device; `call` returns tensors by output name, which are freed. */
export function gpuCandidate(
  name: string,
  backend: string,
  call: () => Readonly<Record<string, tf.Tensor>>,
  implementation?: string,
): Candidate {
  const results = (): Record<string, tf.Tensor> => tf.tidy(() => call() as Record<string, tf.Tensor>);
  return {
    name,
    ...(implementation !== undefined && { implementation }),
    ...onGpu(backend, () => tf.dispose(Object.values(results()))),
    outputs: async () => {
      const tensors = results();
      const entries = await Promise.all(Object.entries(tensors).map(async ([key, tensor]) => [key, await tensor.data()] as const));
      tf.dispose(Object.values(tensors));
      return Object.fromEntries(entries) as Outputs;
    },
  };
}

/** Our op twice: with the kernels of kernels-gpu, and composed of plain tfjs ops. */
export function gpuCandidates(call: () => Readonly<Record<string, tf.Tensor>>): [Candidate, Candidate] {
  return [gpuCandidate(OURS, GPU_BACKEND, call), gpuCandidate(COMPOSED, PLAIN_GPU_BACKEND, call)];
}
