import { closenessFault } from '@seqloom/testing';
import type { Array64, Arrays64 } from '@seqloom/testing';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import type { GpujsArray } from './array.ts';
import { createGpujs } from './run.ts';
import type { Gpujs, GpujsMode } from './run.ts';

// run on WebGPU by `vitest run --mode webgpu`, on the others by the unit tier
const modes: GpujsMode[] = process.env.SEQLOOM_WEBGPU ? ['webgpu'] : ['cpu', 'webasm'];
/** float32 arithmetic; exponentials of WebGPU adapters have 3 to 4 digits less than the others' */
const bounds = process.env.SEQLOOM_WEBGPU ? { rms: 2e-5, max: 2e-4 } : { rms: 2e-6, max: 2e-5 };

/** Declares the tests of gpu.js kernels once per mode that this tier runs. */
export function describeModes(title: string, tests: (current: { gpujs: Gpujs }) => void): void {
  describe.each(modes)(`${title} in the mode %s`, (mode) => {
    const current = {} as { gpujs: Gpujs };
    beforeAll(async () => {
      current.gpujs = await createGpujs({ mode });
    });
    afterAll(async () => {
      await current.gpujs.destroy();
    });
    tests(current);
  });
}

type Inputs = Record<string, Array64 | undefined>;
type Given<I extends Inputs> = { [K in keyof I]: I[K] extends Array64 ? GpujsArray : GpujsArray | undefined };

/** Inputs of an oracle as those of a gpu.js kernel. */
export function given<I extends Inputs>(inputs: I): Given<I> {
  const entries = Object.entries(inputs).map(([name, array]) => [
    name,
    array && { shape: array.shape, data: Float32Array.from(array.data) },
  ]);
  return Object.fromEntries(entries) as Given<I>;
}

/** Expects every array that an oracle gave, and near it. */
export function expectClose(label: string, found: Record<string, GpujsArray | undefined>, wanted: Arrays64): void {
  const faults = Object.entries(wanted).map(([name, array]) => {
    const result = found[name];
    if (!result || !array) return result === array ? null : `${label}.${name} is missing`;
    return closenessFault(`${label}.${name}`, { shape: result.shape, data: result.data as Float32Array }, array, bounds);
  });
  expect(faults.filter((fault) => fault !== null)).toEqual([]);
}
