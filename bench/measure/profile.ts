import * as tf from '@tensorflow/tfjs-core';

/** Where the time of a call goes, by tfjs kernel. */
export interface KernelShare {
  /** kernel name; `(outside kernels)` is tfjs's engine, the tape and our own JavaScript */
  readonly kernel: string;
  readonly calls: number;
  /** milliseconds, the kernels that it calls left out */
  readonly ms: number;
  readonly share: number;
}

const OUTSIDE = '(outside kernels)';

/**
 * Measures one call kernel by kernel: every kernel of the backend is wrapped with a clock for its time.
 *
 * @returns shares of the whole, the largest first
 */
export async function profileKernels(backendName: string, run: () => void | Promise<void>): Promise<KernelShare[]> {
  const spent = new Map<string, { calls: number; ms: number }>();
  const stack: { inner: number }[] = [];
  let inKernels = 0;
  const originals = tf.getKernelsForBackend(backendName);
  const wrapped = originals.map((config): tf.KernelConfig => ({
    ...config,
    kernelFunc: (call) => {
      const frame = { inner: 0 };
      stack.push(frame);
      const start = performance.now();
      try {
        return config.kernelFunc(call);
      } finally {
        const whole = performance.now() - start;
        stack.pop();
        const outer = stack.at(-1);
        if (outer) outer.inner += whole;
        else inKernels += whole;
        const entry = spent.get(config.kernelName) ?? { calls: 0, ms: 0 };
        spent.set(config.kernelName, { calls: entry.calls + 1, ms: entry.ms + whole - frame.inner });
      }
    },
  }));
  const replace = (configs: readonly tf.KernelConfig[]): void => {
    for (const config of configs) {
      tf.unregisterKernel(config.kernelName, backendName);
      tf.registerKernel(config);
    }
  };
  replace(wrapped);
  const start = performance.now();
  try {
    await run();
  } finally {
    replace(originals);
  }
  const total = performance.now() - start;
  const rows = [...spent].map(([kernel, { calls, ms }]) => ({ kernel, calls, ms, share: ms / total }));
  const outside = { kernel: OUTSIDE, calls: 1, ms: total - inKernels, share: (total - inKernels) / total };
  return [...rows, outside].toSorted((a, b) => b.ms - a.ms);
}
