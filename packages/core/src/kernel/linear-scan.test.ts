import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import {
  array64,
  checkKernelGolden,
  checkKernelParity,
  naiveComplexLinearScan,
  naiveLinearScan,
  readGoldenArrays,
  uniform64,
} from '@seqloom/testing';
import { complexLinearScan, linearScan } from './linear-scan.ts';
import type { ComplexLinearScanInputs, LinearScanInputs } from './linear-scan.ts';

const directions = [false, true];

describe.each(['cpu', 'wasm'])('linear scan on %s', (backend) => {
  it.each(directions)('equals its oracle at odd lengths, reverse %j, with and without a state', async (reverse) => {
    for (const [batch, time, channels] of [
      [2, 1, 3],
      [2, 2, 1],
      [1, 7, 3],
      [2, 63, 2],
      [1, 65, 2],
      [1, 100, 1],
    ] as const) {
      const all = {
        decay: uniform64([batch, time, channels], 1, -1, 1),
        input: uniform64([batch, time, channels], 2),
        state: uniform64([batch, channels], 3),
      };
      for (const names of [['decay', 'input', 'state'] as const, ['decay', 'input'] as const]) {
        await checkKernelParity(backend, {
          inputs: Object.fromEntries(names.map((name) => [name, all[name]])),
          run: (inputs) => linearScan(inputs as LinearScanInputs, { reverse }),
          oracle: (inputs) => naiveLinearScan(inputs as never, { reverse }),
          differentiate: names,
          outputTolerance: 2e-6,
          gradientTolerance: 1e-5,
        });
      }
    }
  });

  it.each([
    ['all ones', [1]],
    ['all zeros', [0]],
    ['all minus ones', [-1]],
    ['zeros, ones and tiny ones in turn', [1, 0, 1e-38, 1, 1, 0.5, 1e-20]],
    ['above one', [1.05]],
  ])('is right for decays that are %s', async (_what, pattern) => {
    const [time, channels] = [50, 2];
    const decay = array64(
      [1, time, channels],
      Array.from({ length: time * channels }, (_, place) => Math.fround(pattern[place % pattern.length]!)),
    );
    for (const reverse of directions) {
      await checkKernelParity(backend, {
        inputs: { decay, input: uniform64([1, time, channels], 5), state: uniform64([1, channels], 6) },
        run: (inputs) => linearScan(inputs as LinearScanInputs, { reverse }),
        oracle: (inputs) => naiveLinearScan(inputs as never, { reverse }),
        differentiate: ['decay', 'input', 'state'],
        outputTolerance: 2e-6,
        gradientTolerance: 1e-5,
      });
    }
  });

  it('splits anywhere: the state of one piece starts the next', async () => {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const [decay, input] = [tf.randomUniform([2, 37, 3], 0.5, 1, 'float32', 1), tf.randomNormal([2, 37, 3], 0, 1, 'float32', 2)];
      const whole = linearScan({ decay, input });
      for (const cut of [1, 5, 20, 36]) {
        const piece = (value: tf.Tensor, start: number, count: number) => tf.slice(value, [0, start, 0], [2, count, 3]);
        const first = linearScan({ decay: piece(decay, 0, cut), input: piece(input, 0, cut) });
        const second = linearScan({ decay: piece(decay, cut, 37 - cut), input: piece(input, cut, 37 - cut), state: first.state });
        const joined = tf.concat([first.hidden, second.hidden], 1).dataSync();
        const wanted = whole.hidden.dataSync();
        joined.forEach((value, place) => expect(value).toBeCloseTo(wanted[place]!, 5));
      }
    });
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each(['tiny', 'medium', 'state', 'hard'])('equals the golden case %s of a gated recurrence', async (name) => {
    const golden = await readGoldenArrays(new URL(`../../golden/hgrn/${name}.safetensors`, import.meta.url));
    const state = golden['in.initial_state'];
    // the golden gate is a logarithm: da = dg / a, so the comparison goes through exp outside the scan
    await checkKernelGolden(backend, {
      inputs: { gate: golden['in.g']!, input: golden['in.x']!, ...(state && { state }) },
      run: ({ gate, input, state: start }) => {
        const decay = tf.customGrad((x, save) => {
          const value = tf.exp(x as tf.Tensor);
          (save as tf.GradSaveFunc)([value]);
          return { value, gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => tf.mul(dy, saved[0]!) };
        })(gate!);
        const result = linearScan({ decay, input: input!, state: start });
        decay.dispose();
        return result;
      },
      outputs: { hidden: golden['out.o']!, state: golden['out.final_state']! },
      cotangents: { hidden: golden['cot.o']!, state: golden['cot.final_state']! },
      gradients: { gate: golden['grad.g']!, input: golden['grad.x']!, ...(state && { state: golden['grad.initial_state']! }) },
    });
  });

  it.each(directions)('complex: equals its oracle, reverse %j', async (reverse) => {
    for (const [batch, time, channels] of [
      [2, 1, 2],
      [1, 2, 1],
      [2, 7, 2],
      [1, 65, 1],
    ] as const) {
      const shape = [batch, time, channels];
      // turning numbers of modulus up to 1
      const modulus = uniform64(shape, 1, 0, 1).data;
      const angle = uniform64(shape, 2, -3, 3).data;
      const all = {
        decayReal: array64(
          shape,
          modulus.map((r, place) => Math.fround(r * Math.cos(angle[place]!))),
        ),
        decayImaginary: array64(
          shape,
          modulus.map((r, place) => Math.fround(r * Math.sin(angle[place]!))),
        ),
        inputReal: uniform64(shape, 3),
        inputImaginary: uniform64(shape, 4),
      };
      const states = { stateReal: uniform64([batch, channels], 5), stateImaginary: uniform64([batch, channels], 6) };
      for (const inputs of [all, { ...all, ...states }]) {
        await checkKernelParity(backend, {
          inputs,
          run: (given) => complexLinearScan(given as ComplexLinearScanInputs, { reverse }),
          oracle: (given) => naiveComplexLinearScan(given as never, { reverse }),
          differentiate: Object.keys(inputs),
          outputTolerance: 2e-6,
          gradientTolerance: 1e-5,
        });
      }
    }
  });
});

describe('the doors of the scans', () => {
  const ones = (...shape: number[]) => tf.ones(shape);
  it.each([
    ['rank 2', () => linearScan({ decay: ones(2, 3), input: ones(2, 3) })],
    ['no time', () => linearScan({ decay: ones(1, 0, 3), input: ones(1, 0, 3) })],
    ['a narrow input', () => linearScan({ decay: ones(1, 2, 3), input: ones(1, 2, 1) })],
    ['a state with time', () => linearScan({ decay: ones(1, 2, 3), input: ones(1, 2, 3), state: ones(1, 1, 3) })],
    [
      'half a state',
      () =>
        complexLinearScan({
          decayReal: ones(1, 2, 3),
          decayImaginary: ones(1, 2, 3),
          inputReal: ones(1, 2, 3),
          inputImaginary: ones(1, 2, 3),
          stateReal: ones(1, 3),
        }),
    ],
  ])('refuse %s', (_what, call) => {
    expect(() => tf.tidy(() => call() as tf.TensorContainer)).toThrow(/^(complex-)?linear-scan: .* must be .*; got .*\. /);
  });
});
