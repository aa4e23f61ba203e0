import * as tf from '@tensorflow/tfjs-core';
import { findGpu, importOptional, shareWebGpuDevice, sharedWebGpuDevice } from './web-gpu.ts';

/** Options that reach the backends. */
export interface BackendOptions {
  /** where the browser finds tfjs-wasm's binaries: a folder's address, or an address per file name */
  readonly wasmPaths?: string | Readonly<Record<string, string>>;
  /** `low-power` or `high-performance` (default) adapter for WebGPU */
  readonly powerPreference?: GPUPowerPreference;
}

/** Kernels of a package that are in use. */
export interface KernelsInUse {
  /** who made them, the same as in the kernels' implementations */
  readonly label: string;
  undo(): void;
  /** why a kernel runs in the form that it runs in, where there is a choice; `explain()` shows it */
  why?(kernel: string): string | undefined;
}

/** A kernel package's use function: installs its kernels, and says how to take them away. */
export type KernelPackage = () => KernelsInUse | Promise<KernelsInUse>;

type Verdict = { ready: true; reason: string } | { ready: false; reason: string; remedy: string };

/** Makes one backend available in tfjs's registry without choosing it. */
interface BackendLoader {
  (options: BackendOptions, automatic: boolean): Promise<Verdict>;
  /** installs the given kernel packages, or the ones that are present */
  kernels(given: readonly KernelPackage[] | undefined): Promise<KernelsInUse[]>;
}

const inNode = typeof process !== 'undefined' && process.versions?.node !== undefined;

async function useKernels(
  given: readonly KernelPackage[] | undefined,
  installed: { name: string; use: string } | undefined,
): Promise<KernelsInUse[]> {
  if (given) return Promise.all(given.map(async (use) => use()));
  if (!installed) return [];
  const module = await importOptional(installed.name);
  const use = module?.[installed.use] as KernelPackage | undefined;
  return use ? [await use()] : [];
}

async function loadCpu(): Promise<Verdict> {
  await import('@tensorflow/tfjs-backend-cpu');
  return { ready: true, reason: 'plain JavaScript runs anywhere' };
}

async function loadWasm(options: BackendOptions): Promise<Verdict> {
  const remedy = 'Install @tensorflow/tfjs-backend-wasm; in a browser also pass wasmPaths.';
  if (typeof WebAssembly === 'undefined') return { ready: false, reason: 'this runtime has no WebAssembly', remedy };
  try {
    const wasm = await import('@tensorflow/tfjs-backend-wasm');
    if (options.wasmPaths !== undefined) wasm.setWasmPaths(options.wasmPaths as string);
    const before = tf.getBackend();
    const started = await tf.setBackend('wasm');
    if (!started) {
      if (before) await tf.setBackend(before);
      return { ready: false, reason: 'tfjs-backend-wasm did not start (its binary was not found or not accepted)', remedy };
    }
    return { ready: true, reason: 'WebAssembly needs no GPU and no native library' };
  } catch (error) {
    return { ready: false, reason: (error as Error).message, remedy };
  }
}

async function loadWebGpu(options: BackendOptions, automatic: boolean): Promise<Verdict> {
  const remedy = inNode
    ? 'npm install webgpu @tensorflow/tfjs-backend-webgpu, and a Vulkan, Metal or D3D12 driver (for SwiftShader set VK_ICD_FILENAMES).'
    : 'Use a browser with WebGPU, on a page served over HTTPS or from localhost.';
  const inSoftware = (label: string): Verdict => ({
    ready: false,
    reason: `only a software adapter (${label}), slower than WebAssembly`,
    remedy,
  });
  try {
    // a second device would compile every shader anew
    const running = sharedWebGpuDevice();
    if (running && tf.findBackend('webgpu')) {
      return automatic && running.software ? inSoftware(running.label) : { ready: true, reason: `WebGPU adapter ${running.label}` };
    }
    // without a graphics device Dawn would only find emulated adapters, and complain loudly on the way
    if (automatic && deviceIsAbsent()) return { ready: false, reason: 'this machine has no GPU device', remedy };
    const gpu = await findGpu();
    if (!gpu) return { ready: false, reason: inNode ? 'the package webgpu is not installed' : 'navigator.gpu is absent', remedy };
    const adapter = await gpu.requestAdapter({ powerPreference: options.powerPreference ?? 'high-performance' });
    if (!adapter) return { ready: false, reason: 'no adapter was found', remedy };
    const { vendor, architecture, description } = adapter.info;
    const label = [vendor, architecture, description].filter(Boolean).join(' ');
    // a GPU that is emulated on the CPU is slower than WebAssembly, so it is used only when asked for
    const software = adapter.info.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe/i.test(label);
    if (automatic && software) return inSoftware(label);
    const { WebGPUBackend } = await import('@tensorflow/tfjs-backend-webgpu');
    const features: GPUFeatureName[] = ['timestamp-query', 'bgra8unorm-storage', 'shader-f16', 'subgroups' as GPUFeatureName];
    const device = await adapter.requestDevice({
      requiredFeatures: features.filter((feature) => adapter.features.has(feature)),
      requiredLimits: {
        maxComputeWorkgroupStorageSize: adapter.limits.maxComputeWorkgroupStorageSize,
        maxComputeWorkgroupsPerDimension: adapter.limits.maxComputeWorkgroupsPerDimension,
        maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize,
        maxBufferSize: adapter.limits.maxBufferSize,
        maxComputeWorkgroupSizeX: adapter.limits.maxComputeWorkgroupSizeX,
        maxComputeInvocationsPerWorkgroup: adapter.limits.maxComputeInvocationsPerWorkgroup,
      },
    });
    // tfjs-backend-webgpu registers a factory of its own, with a device that we would not know
    if (tf.findBackendFactory('webgpu')) tf.removeBackend('webgpu');
    tf.registerBackend('webgpu', () => new WebGPUBackend(device, adapter.info), 3);
    shareWebGpuDevice({ device, label, software });
    return { ready: true, reason: `WebGPU adapter ${label}` };
  } catch (error) {
    return { ready: false, reason: (error as Error).message, remedy };
  }
}

/** True on a Linux machine without graphics device files. */
function deviceIsAbsent(): boolean {
  if (!inNode || process.platform !== 'linux') return false;
  const { existsSync } = process.getBuiltinModule('node:fs');
  return !['/dev/dri', '/dev/nvidia0', '/dev/dxg', '/dev/kfd'].some((path) => existsSync(path));
}

async function loadTensorflow(): Promise<Verdict> {
  const remedy = 'npm install @tensorflow/tfjs-node-gpu (CUDA) or @tensorflow/tfjs-node; their native library is fetched at install.';
  if (!inNode) return { ready: false, reason: 'the native library runs in Node only', remedy };
  if (tf.findBackend('tensorflow')) return { ready: true, reason: 'a tensorflow backend is registered' };
  const reasons: string[] = [];
  for (const name of ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node']) {
    try {
      const found = await importOptional(name);
      if (found && tf.findBackend('tensorflow')) return { ready: true, reason: `${name} is installed` };
      reasons.push(found ? `${name} registered no backend here (is there a second copy of tfjs-core?)` : `${name} is not installed`);
    } catch (error) {
      reasons.push((error as Error).message);
    }
  }
  return { ready: false, reason: reasons.join('; '), remedy };
}

const loader = (
  load: (options: BackendOptions, automatic: boolean) => Promise<Verdict>,
  installed?: { name: string; use: string },
): BackendLoader => Object.assign(load, { kernels: (given: readonly KernelPackage[] | undefined) => useKernels(given, installed) });

/** How each backend is made available. */
export const backendLoaders = {
  tensorflow: loader(loadTensorflow),
  webgpu: loader(loadWebGpu, { name: '@seqloom/kernels-gpu', use: 'useGpuKernels' }),
  wasm: loader(loadWasm, { name: '@seqloom/kernels-wasm', use: 'useWasmKernels' }),
  cpu: loader(loadCpu),
};
