import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-wasm';
import { kernelRuns, resetKernelRuns, setStrict } from '@seqloom/core';
import { afterEach, beforeAll, beforeEach, describe, expect } from 'vitest';
import { supportsBuild } from './load.ts';
import type { Build } from './load.ts';
import { useWasmKernels } from './use-wasm-kernels.ts';

/**
 * Runs the tests of one kernel contract with each build, in strict mode: a call that falls back to the composed form throws, and every test
 * must have run the fused kernel. Tensors that a test leaves behind fail it.
 */
export function describeBuilds(title: string, kernel: string, tests: () => void): void {
  describe.each<Build>(['simd', 'relaxed'])(`${title}, %s build`, (build) => {
    let tensors = 0;
    beforeAll(async () => {
      if (!supportsBuild(build)) throw new Error(`this runtime does not accept the ${build} build: run the tests with Node 24`);
      await tf.setBackend('wasm');
      await tf.ready();
      const { undo } = await useWasmKernels({ build });
      const strict = setStrict(true);
      return () => {
        setStrict(strict);
        undo();
      };
    });
    beforeEach(() => {
      tensors = tf.memory().numTensors;
      resetKernelRuns();
    });
    afterEach(() => {
      expect(tf.memory().numTensors).toBe(tensors);
      const runs = kernelRuns().filter((run) => run.kernel === kernel);
      expect(runs.length, `${kernel} ran`).toBeGreaterThan(0);
      expect(runs.every((run) => run.implementation.kind === 'fused' && run.implementation.label === `kernels-wasm (${build})`)).toBe(true);
    });
    tests();
  });
}
