import { setupBackend } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { Mamba } from './mamba-s6/layer.ts';
import { Mamba2 } from './mamba2-ssd/layer.ts';

beforeAll(async () => {
  await setupBackend('wasm', { kernels: [] });
});

const furthest = (a: tf.Tensor, b: tf.Tensor): number => tf.tidy(() => tf.max(tf.abs(tf.sub(a, b))).dataSync()[0]!);
const input = (): tf.Tensor3D => tf.randomNormal([2, 9, 8], 0, 1, 'float32', 7);

const SMALL = { dim: 8, innerDim: 12, headDim: 4, stateDim: 3, groups: 3, seed: 3 } as const;

describe('a layer without projection out', () => {
  it.each([
    ['Mamba', (projectOutput: boolean) => new Mamba({ dim: 8, innerDim: 12, stateDim: 3, seed: 3, projectOutput }), 12],
    ['Mamba2', (projectOutput: boolean) => new Mamba2({ ...SMALL, mlpDim: 5, projectOutput }), 17],
  ] as const)('%s gives what the projection reads', (_name, build, width) => {
    const [whole, bare] = [build(true), build(false)];
    expect([bare.output, bare.outputDim, whole.outputDim]).toEqual([null, width, 8]);
    tf.tidy(() => {
      const channels = bare.forward(input()).output;
      expect(channels.shape).toEqual([2, 9, width]);
      expect(furthest(whole.output!.forward(channels), whole.forward(input()).output)).toBe(0);
    });
    whole.dispose();
    bare.dispose();
  });
});

describe('inputScales of Mamba2', () => {
  it('are factors on the columns of the projection in', () => {
    const scales: [number, number, number, number, number] = [0.5, 2, -1, 1.5, 0.7];
    const widths = [10, 12, 12, 9, 9, 3];
    const scaled = new Mamba2({ ...SMALL, mlpDim: 5, inputScales: scales });
    const folded = new Mamba2({ ...SMALL, mlpDim: 5 });
    tf.tidy(() => {
      const factors = tf.concat([1, ...scales].map((factor, part) => tf.fill([widths[part]!], factor)));
      folded.input.weight.assign(tf.mul(folded.input.weight.value, factors));
      expect(furthest(scaled.forward(input()).output, folded.forward(input()).output)).toBeLessThan(1e-6);
    });
    scaled.dispose();
    folded.dispose();
  });
});
