import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import { array64, checkKernelGolden, checkKernelParity, naiveRotary, readGoldenArrays, transposed64, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import { rotary } from './rotary.ts';
import type { RotaryInputs } from './rotary.ts';

function anglesAt(positions: readonly number[], frequencies: readonly number[]): { cos: Array64; sin: Array64 } {
  const angles = positions.flatMap((position) => frequencies.map((frequency) => position * frequency));
  const shape = [1, positions.length, frequencies.length];
  return { cos: array64(shape, angles.map(Math.cos)), sin: array64(shape, angles.map(Math.sin)) };
}

describe.each(['cpu', 'wasm'])('rotary on %s', (backend) => {
  it.each([false, true])(
    'equals its oracle, interleaved %j: whole and partial, shared and per-row angles, one token',
    async (interleaved) => {
      for (const [batch, time, heads, width, pairs, rows] of [
        [2, 7, 3, 6, 3, 1],
        [2, 5, 1, 6, 2, 2],
        [1, 1, 2, 2, 1, 1],
        [1, 3, 1, 7, 3, 1],
      ] as const) {
        await checkKernelParity(backend, {
          inputs: {
            input: uniform64([batch, time, heads, width], 1),
            cos: uniform64([rows, time, pairs], 2),
            sin: uniform64([rows, time, pairs], 3),
          },
          run: (inputs) => ({ output: rotary(inputs as RotaryInputs, { interleaved }) }),
          oracle: (inputs) => naiveRotary(inputs as never, { interleaved }),
          differentiate: ['input'],
          outputTolerance: 1e-6,
          gradientTolerance: 1e-6,
        });
      }
    },
  );

  it.each([
    ['tiny', 1e4, 0],
    ['medium', 1e4, 0],
    ['state', 5e5, 0],
    ['hard', 1e4, 12345],
  ] as const)('equals the half-split golden case %s', async (name, theta, offset) => {
    const golden = await readGoldenArrays(new URL(`../../golden/rotary-half/${name}.safetensors`, import.meta.url));
    for (const which of ['q', 'k']) {
      const batchFirst = (key: string) => transposed64(golden[key]!, [0, 2, 1, 3]);
      const input = batchFirst(`in.${which}`);
      const [time, width] = [input.shape[1]!, input.shape[3]!];
      const frequencies = Array.from({ length: width / 2 }, (_, pair) => theta ** ((-2 * pair) / width));
      const angles = anglesAt(
        Array.from({ length: time }, (_, t) => offset + t),
        frequencies,
      );
      await checkKernelGolden(backend, {
        inputs: { input, ...angles },
        run: (inputs) => ({ output: rotary(inputs as RotaryInputs) }),
        outputs: { output: batchFirst(`out.${which}_rot`) },
        cotangents: { output: batchFirst(`cot.${which}_rot`) },
        gradients: { input: batchFirst(`grad.${which}`) },
      });
    }
  });

  it.each(['tiny', 'medium', 'state', 'hard'])('equals the interleaved golden case %s', async (name) => {
    const golden = await readGoldenArrays(new URL(`../../golden/rotary-interleaved-yarn/${name}.safetensors`, import.meta.url));
    const input = golden['in.q']!;
    const angles = anglesAt(
      Array.from({ length: input.shape[1]! }, (_, t) => t),
      [...golden['out.angles']!.data],
    );
    await checkKernelGolden(backend, {
      inputs: { input, ...angles },
      run: (inputs) => ({ output: rotary(inputs as RotaryInputs, { interleaved: true }) }),
      outputs: { output: golden['out.o']! },
      cotangents: { output: golden['cot.o']! },
      gradients: { input: golden['grad.q']! },
    });
  });
});

describe('the door of rotary', () => {
  it.each([
    ['rank 3', () => rotary({ input: tf.ones([1, 2, 4]), cos: tf.ones([1, 2, 2]), sin: tf.ones([1, 2, 2]) })],
    ['more pairs than channels', () => rotary({ input: tf.ones([1, 2, 1, 4]), cos: tf.ones([1, 2, 3]), sin: tf.ones([1, 2, 3]) })],
    ['another time', () => rotary({ input: tf.ones([1, 2, 1, 4]), cos: tf.ones([1, 3, 2]), sin: tf.ones([1, 3, 2]) })],
    ['a sine of another shape', () => rotary({ input: tf.ones([2, 2, 1, 4]), cos: tf.ones([1, 2, 2]), sin: tf.ones([2, 2, 2]) })],
  ])('refuses %s', (_what, call) => {
    expect(() => tf.tidy(call)).toThrow(/^rotary: .* must be .*; got .*\. /);
  });
});
