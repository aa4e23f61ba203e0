import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { beforeAll, describe, expect, it } from 'vitest';
import { array64, checkKernelParity, uniform64 } from '@seqloom/testing';
import { registerGradients } from '../gradient/index.ts';
import { circlePoint, turnsAt } from './circle-point.ts';

const FREQUENCIES = Float64Array.from({ length: 16 }, (_, r) => 10000 ** (-r / 16));

describe.each(['cpu', 'wasm'])('on %s', (backend) => {
  beforeAll(() => registerGradients());

  it('points of the circle equal those of float64 at any rank, gradient included', async () => {
    const quarters = array64([9], [-100, -1, -0.5, -0.25, 0, 0.125, 0.5, 1, 100]);
    for (const turns of [uniform64([2, 3, 1, 5], 1, -3, 3), uniform64([4, 2], 2, -0.6, 0.6), quarters, array64([], [0.3])]) {
      await checkKernelParity(backend, {
        inputs: { turns },
        run: (inputs) => ({ ...circlePoint(inputs['turns']!) }),
        oracle: (inputs) => {
          const { shape, data } = inputs['turns']!;
          return {
            cos: { shape, data: data.map((x) => Math.cos(2 * Math.PI * x)) },
            sin: { shape, data: data.map((x) => Math.sin(2 * Math.PI * x)) },
          };
        },
        differentiate: ['turns'],
        outputTolerance: 1e-6,
        // the derivative of the series cancels near half turns
        gradientTolerance: 5e-6,
      });
    }
  });

  it('turns of positions up to 2^22 keep their fraction, at whatever rank and dtype', async () => {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    const places = Array.from({ length: 3000 }, (_, i) => [i, 1_048_575 - i, 4_194_303 - 1399 * i][i % 3]!);
    for (const [shape, dtype] of [
      [[3000], 'float32'],
      [[3, 2, 500], 'int32'],
    ] as const) {
      const positions = tf.tensor(places, [...shape], dtype);
      const turns = turnsAt(positions, FREQUENCIES);
      expect(turns.shape).toEqual([...shape, 16]);
      const worst = [...(await turns.data())].reduce((most, given, i) => {
        const off = given - (places[Math.floor(i / 16)]! * FREQUENCIES[i % 16]!) / (2 * Math.PI);
        return Math.max(most, Math.abs(off - Math.round(off)));
      }, 0);
      expect(worst).toBeLessThan(3e-7);
      tf.dispose([positions, turns]);
    }
    expect(tf.memory().numTensors).toBe(before);
  });
});

it('refuses integers', () => {
  expect(() => circlePoint(tf.scalar(1, 'int32'))).toThrow(/^circle-point: turns must be a float32 tensor/);
});
