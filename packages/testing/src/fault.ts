import * as tf from '@tensorflow/tfjs-core';
import { leakFault, countTensors } from './leak.ts';

/** The error that an injected fault throws. */
export class InjectedFault extends Error {
  constructor(kernel: string, call: number) {
    super(`injected fault in kernel call ${call} (${kernel})`);
    this.name = 'InjectedFault';
  }
}

type RunKernel = ReturnType<typeof tf.engine>['runKernel'];

/** Runs `work` with tfjs's kernel runner wrapped, and puts the runner back whatever happens. */
function withRunner<T>(wrap: (original: RunKernel) => RunKernel, work: () => T): T {
  const engine = tf.engine() as { runKernel?: RunKernel };
  const original = engine.runKernel!;
  // the method lives on the prototype, unless wraps are nested
  const owned = Object.hasOwn(engine, 'runKernel');
  engine.runKernel = wrap(original.bind(engine) as RunKernel);
  try {
    return work();
  } finally {
    if (owned) engine.runKernel = original;
    else delete engine.runKernel;
  }
}

/** Names of all tfjs kernels that synchronous work runs, nested ones included, in order. */
export function recordKernels(work: () => unknown): string[] {
  const names: string[] = [];
  withRunner(
    (run) =>
      ((name: string, inputs: tf.NamedTensorMap, attributes?: tf.NamedAttrMap) => {
        names.push(name);
        return run(name, inputs, attributes);
      }) as RunKernel,
    work,
  );
  return names;
}

/** Runs synchronous work and makes its n-th tfjs kernel call (counted from 1) throw an `InjectedFault`. */
export function failAtKernel<T>(n: number, work: () => T): T {
  let calls = 0;
  return withRunner(
    (run) =>
      ((name: string, inputs: tf.NamedTensorMap, attributes?: tf.NamedAttrMap) => {
        calls++;
        if (calls === n) throw new InjectedFault(name, n);
        return run(name, inputs, attributes);
      }) as RunKernel,
    work,
  );
}

/**
 * Lets the n-th kernel call of some work throw, for n spread over all its calls, and says what then leaked.
 *
 * @param work synchronous; returns tensors, which are disposed
 * @param samples how many n to try at most, default 12, on WebGPU a third of it; the first and the last are always among them
 * @returns faults found, one line each
 */
export function faultSweep(work: () => tf.TensorContainer, samples = 12): string[] {
  const names = recordKernels(() => tf.dispose(work()));
  // Identity only shares data and cannot fail; tfjs calls it between keeping one saved tensor and the next
  const candidates = names.flatMap((name, index) => (name === 'Identity' ? [] : [index + 1]));
  // a GPU that the CPU plays takes 50 times as long
  const count = Math.min(tf.getBackend() === 'webgpu' ? Math.ceil(samples / 3) : samples, candidates.length);
  const picked = Array.from({ length: count }, (_, i) => Math.round((i * (candidates.length - 1)) / Math.max(1, count - 1)));
  const places = new Set(picked.map((index) => candidates[index]!));
  const faults: string[] = [];
  for (const n of places) {
    const before = countTensors();
    let thrown: unknown;
    try {
      tf.dispose(failAtKernel(n, work));
    } catch (error) {
      thrown = error;
    }
    const where = `a fault in kernel call ${n} of ${names.length} (${names[n - 1]})`;
    if (!thrown) faults.push(`${where} was swallowed`);
    const leak = leakFault(before, where);
    if (leak) faults.push(leak);
  }
  return faults;
}
