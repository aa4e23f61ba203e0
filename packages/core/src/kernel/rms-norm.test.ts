import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import { checkKernelGolden, checkKernelParity, naiveRmsNorm, readGoldenArrays, uniform64 } from '@seqloom/testing';
import { rmsNorm } from './rms-norm.ts';
import type { RmsNormAttributes, RmsNormInputs } from './rms-norm.ts';

const settings: Partial<RmsNormAttributes>[] = [
  {},
  { gateActivation: 'sigmoid', epsilon: 1e-3 },
  { normBeforeGate: false, groups: 2 },
  { normBeforeGate: false, gateActivation: 'sigmoid', groups: 3 },
  { groups: 2 },
];

describe.each(['cpu', 'wasm'])('rms norm on %s', (backend) => {
  it.each(settings)('equals its oracle with %j', async (options) => {
    for (const [shape, names] of [
      [
        [2, 5, 6],
        ['input', 'weight', 'gate'],
      ],
      [
        [1, 1, 6],
        ['input', 'gate'],
      ],
      [
        [3, 6],
        ['input', 'weight'],
      ],
      [[6], ['input']],
    ] as const) {
      const all = { input: uniform64(shape, 1, -3, 3), weight: uniform64([6], 2, 0.5, 2), gate: uniform64(shape, 3, -4, 4) };
      await checkKernelParity(backend, {
        inputs: Object.fromEntries(names.map((name) => [name, all[name]])),
        run: (inputs) => ({ output: rmsNorm(inputs as RmsNormInputs, options) }),
        oracle: (inputs) => naiveRmsNorm(inputs as never, options),
        differentiate: names,
        outputTolerance: 2e-6,
        gradientTolerance: 2e-5,
      });
    }
  });

  it('stays finite for gates at 100 and a row of zeros', async () => {
    const gate = uniform64([1, 2, 4], 1);
    gate.data.set([100, -100, 100, -100]);
    const input = uniform64([1, 2, 4], 2);
    input.data.fill(0, 4);
    for (const normBeforeGate of [true, false]) {
      await checkKernelParity(backend, {
        inputs: { input, gate },
        run: (inputs) => ({ output: rmsNorm(inputs as RmsNormInputs, { normBeforeGate }) }),
        oracle: (inputs) => naiveRmsNorm(inputs as never, { normBeforeGate }),
        differentiate: ['input', 'gate'],
        step: 1e-6,
      });
    }
  });

  it.each(['tiny', 'after', 'grouped', 'hard'])('equals the golden case %s', async (name) => {
    const golden = await readGoldenArrays(new URL(`../../golden/rmsnorm-gated/${name}.safetensors`, import.meta.url));
    const weight = Object.keys(golden)
      .find((key) => key.startsWith('param.'))!
      .slice('param.'.length);
    const normBeforeGate = name === 'tiny' || name === 'hard';
    await checkKernelGolden(backend, {
      inputs: { input: golden['in.x']!, gate: golden['in.z']!, weight: golden[`param.${weight}`]! },
      run: (inputs) => ({ output: rmsNorm(inputs as RmsNormInputs, { normBeforeGate, groups: name === 'grouped' ? 3 : 1 }) }),
      outputs: { output: golden['out.o']! },
      cotangents: { output: golden['cot.o']! },
      gradients: { input: golden['grad.x']!, gate: golden['grad.z']!, weight: golden[`grad.${weight}`]! },
    });
  });
});

describe('the door of rms norm', () => {
  it.each([
    ['a scalar', () => rmsNorm({ input: tf.scalar(1) })],
    ['integers', () => rmsNorm({ input: tf.tensor1d([1], 'int32') })],
    ['no tensor', () => rmsNorm({ input: [1] as never })],
    ['a short weight', () => rmsNorm({ input: tf.ones([2, 4]), weight: tf.ones([3]) })],
    ['a gate of another shape', () => rmsNorm({ input: tf.ones([2, 4]), gate: tf.ones([4]) })],
    ['groups that do not divide', () => rmsNorm({ input: tf.ones([2, 4]) }, { groups: 3 })],
    ['a negative epsilon', () => rmsNorm({ input: tf.ones([2, 4]) }, { epsilon: -1 })],
    ['an unknown activation', () => rmsNorm({ input: tf.ones([2, 4]) }, { gateActivation: 'relu' as never })],
  ])('refuses %s', (_what, call) => {
    expect(() => tf.tidy(call)).toThrow(/^rms-norm: .* must be .*; got .*\. /);
  });
});
