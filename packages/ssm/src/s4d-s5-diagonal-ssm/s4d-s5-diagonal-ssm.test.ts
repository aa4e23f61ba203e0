import { setupBackend } from '@seqloom/core';
import { relativeError64, uniform64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { fourierConvolution } from './fourier.ts';
import { hippoPoles } from './hippo.ts';
import { startPoles } from './poles.ts';
import { S4d } from './s4d-layer.ts';
import { S5 } from './s5-layer.ts';

describe('poles of HiPPO-LegS', () => {
  it.each([2, 8, 32])('are eigenvalues of the normal part, with their vectors, at size %i', (size) => {
    const { imaginary, vectorsReal, vectorsImaginary } = hippoPoles(size);
    const count = size / 2;
    expect(imaginary).toHaveLength(count);
    expect(Math.min(...imaginary)).toBeGreaterThan(0);
    const p = (n: number): number => Math.sqrt(n + 0.5);
    const hippo = (n: number, k: number): number => (n > k ? -Math.sqrt((2 * n + 1) * (2 * k + 1)) : n === k ? -(n + 1) : 0);
    for (let e = 0; e < count; e++) {
      let size2 = 0;
      for (let n = 0; n < size; n++) {
        const [vr, vi] = [vectorsReal[n * count + e]!, vectorsImaginary[n * count + e]!];
        size2 += vr * vr + vi * vi;
        let [re, im] = [0, 0];
        for (let k = 0; k < size; k++) {
          const entry = hippo(n, k) + p(n) * p(k);
          re += entry * vectorsReal[k * count + e]!;
          im += entry * vectorsImaginary[k * count + e]!;
        }
        // (-1/2 + i w) v
        expect(Math.abs(re - (-0.5 * vr - imaginary[e]! * vi))).toBeLessThan(1e-10 * size);
        expect(Math.abs(im - (-0.5 * vi + imaginary[e]! * vr))).toBeLessThan(1e-10 * size);
      }
      expect(size2).toBeCloseTo(1, 10);
    }
  });

  it('come close to those of the inverse law from the top, the closer the larger the state', () => {
    const excess = [16, 32].map((count) => Math.max(...startPoles('legs', count).imaginary) / startPoles('inv', count).imaginary[0]! - 1);
    expect(excess[0]).toBeLessThan(0.04);
    expect(excess[1]).toBeLessThan(0.02);
    expect(Math.min(...excess)).toBeGreaterThan(0);
  });
});

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it.each([1, 2, 7, 64, 1000])(
    'the Fourier convolution of %i tokens equals the sum, also at a length that is no square',
    async (length) => {
      const [input, kernel] = [uniform64([length, 6], 1), uniform64([length, 3], 2)];
      const wanted = new Float64Array(length * 6);
      for (let t = 0; t < length; t++) {
        for (let lane = 0; lane < 6; lane++) {
          for (let j = 0; j <= t; j++) wanted[t * 6 + lane]! += kernel.data[(t - j) * 3 + (lane % 3)]! * input.data[j * 6 + lane]!;
        }
      }
      const given = tf.tidy(() =>
        fourierConvolution(
          tf.tensor2d(Float32Array.from(input.data), [length, 6]),
          tf.tensor2d(Float32Array.from(kernel.data), [length, 3]),
        ),
      );
      expect(relativeError64(await given.data(), wanted)).toBeLessThan(1e-6);
      given.dispose();
    },
  );

  it('the three forms of a layer with the default poles agree over 1024 tokens', async () => {
    const x = tf.tensor3d(Float32Array.from(uniform64([1, 1024, 4], 5).data), [1, 1024, 4]);
    const outputs: Float32Array[] = [];
    for (const form of ['recurrent', 'chunk', 'parallel'] as const) {
      const layer = new S4d({ dim: 4, stateDim: 16, form });
      const { output, state } = layer.forward(x);
      outputs.push((await output.data()) as Float32Array);
      tf.dispose([output, { ...state }]);
      layer.dispose();
    }
    // the two convolutions take powers of the exact decay, the recurrence multiplies its rounding up
    expect(relativeError64(outputs[2]!, outputs[1]!)).toBeLessThan(1e-5);
    expect(relativeError64(outputs[0]!, outputs[1]!)).toBeLessThan(1e-4);
    x.dispose();
  });

  it('layers of every choice of poles give finite numbers at their default size', async () => {
    const x = tf.tensor3d(Float32Array.from(uniform64([1, 100, 4], 5).data), [1, 100, 4]);
    for (const layer of [
      ...(['legs', 'lin', 'inv', 'quad', 'real'] as const).map((poles) => new S4d({ dim: 4, poles })),
      new S5({ dim: 4, blocks: 4 }),
    ]) {
      const { output, state } = layer.forward(x);
      const values = await output.data();
      expect(values.every((value) => Number.isFinite(value))).toBe(true);
      expect(Math.max(...values.map(Math.abs))).toBeGreaterThan(0.01);
      tf.dispose([output, { ...state }]);
      layer.dispose();
    }
    x.dispose();
  });
});
