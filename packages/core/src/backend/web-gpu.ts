/** Where WebGPU comes from, without tfjs: what other libraries need to run on the device of tfjs. */
const inNode = typeof process !== 'undefined' && process.versions?.node !== undefined;

/** The device that a backend runs on. */
export interface SharedDevice {
  readonly device: GPUDevice;
  /** vendor, architecture and description of the adapter */
  readonly label: string;
  /** whether the GPU is emulated on the CPU */
  readonly software: boolean;
}

let shared: SharedDevice | undefined;

/** The device of `setupBackend('webgpu')`, or undefined before it and after a loss of the device. */
export function sharedWebGpuDevice(): SharedDevice | undefined {
  return shared;
}

/** Makes a device the one that `sharedWebGpuDevice` hands out, until it is lost. */
export function shareWebGpuDevice(found: SharedDevice): void {
  shared = found;
  void found.device.lost.then(() => {
    if (shared?.device === found.device) shared = undefined;
  });
}

/** An import that bundlers leave alone, for packages that may be absent. */
export async function importOptional(name: string): Promise<Record<string, unknown> | undefined> {
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as Record<string, unknown>;
  } catch (error) {
    const { code = '', message } = error as { code?: string; message: string };
    // runtimes and dev servers word it differently, but each names the package that is not there
    const absent = /MODULE_NOT_FOUND/.test(code) || /cannot find|(failed|not) (to )?(load|resolve)/i.test(message);
    if ((absent && message.includes(name)) || !inNode) return undefined;
    throw new Error(`${name} is installed but does not load: ${message}`, { cause: error });
  }
}

/**
 * Finds WebGPU: the browser's `navigator.gpu`, or in Node that of the optional package `webgpu` (Dawn), which it then puts there.
 *
 * @returns undefined where there is none
 */
export async function findGpu(): Promise<GPU | undefined> {
  const scope = globalThis as { navigator?: { gpu?: GPU } };
  if (scope.navigator?.gpu) return scope.navigator.gpu;
  if (!inNode) return undefined;
  const dawn = (await importOptional('webgpu')) as { create(flags: string[]): GPU; globals: object } | undefined;
  if (!dawn) return undefined;
  Object.assign(globalThis, dawn.globals);
  // the Vulkan loader of headless machines complains when it is unset
  process.env.XDG_RUNTIME_DIR ??= '/tmp';
  // shaders of ours and of tfjs write workgroup memory before they read it; to clear it first takes SwiftShader ten times as long to compile
  const gpu = dawn.create(['enable-dawn-features=disable_workgroup_init']);
  // tfjs-backend-webgpu and gpu.js look at navigator.gpu by themselves
  if (scope.navigator) Object.defineProperty(scope.navigator, 'gpu', { value: gpu, configurable: true });
  else Object.defineProperty(globalThis, 'navigator', { value: { gpu, userAgent: 'node' }, configurable: true });
  return gpu;
}
