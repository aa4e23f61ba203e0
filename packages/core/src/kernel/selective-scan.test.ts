import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import {
  array64,
  checkKernelGolden,
  checkKernelParity,
  naiveSelectiveScan,
  readGoldenArrays,
  tensorOf,
  transposed64,
  uniform64,
} from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import { selectiveScan } from './selective-scan.ts';
import type { SelectiveScanInputs } from './selective-scan.ts';

function randomInputs(batch: number, time: number, channels: number, states: number): Record<string, Array64> {
  return {
    input: uniform64([batch, time, channels], 1),
    delta: uniform64([batch, time, channels], 2, 0.01, 1),
    transition: uniform64([channels, states], 3, -3, -0.1),
    inputMatrix: uniform64([batch, time, states], 4),
    outputMatrix: uniform64([batch, time, states], 5),
    skip: uniform64([channels], 6),
    state: uniform64([batch, channels, states], 7),
  };
}

const parity = {
  run: (inputs: Record<string, tf.Tensor>) => selectiveScan(inputs as unknown as SelectiveScanInputs),
  oracle: naiveSelectiveScan as never,
};

describe.each(['cpu', 'wasm'])('selective scan on %s', (backend) => {
  it.each([
    [2, 1, 3, 2],
    [1, 2, 1, 1],
    [2, 7, 3, 4],
    [1, 33, 2, 2],
    [1, 65, 2, 1],
  ])('equals its oracle for B %i, T %i, C %i, N %i', async (batch, time, channels, states) => {
    const inputs = randomInputs(batch, time, channels, states);
    const { skip: _skip, state: _state, ...bare } = inputs;
    for (const given of [inputs, bare]) {
      await checkKernelParity(backend, {
        ...parity,
        inputs: given,
        differentiate: Object.keys(given),
        outputTolerance: 2e-6,
        gradientTolerance: 2e-5,
      });
    }
  });

  it.each([1, 3, 4, 16])('carries state and gradients across chunks of %i', async (chunkSize) => {
    const inputs = randomInputs(2, 11, 2, 3);
    await checkKernelParity(backend, {
      ...parity,
      run: (given) => selectiveScan(given as unknown as SelectiveScanInputs, { chunkSize }),
      inputs,
      differentiate: Object.keys(inputs),
      outputTolerance: 2e-6,
      gradientTolerance: 2e-5,
    });
  });

  it('splits at any border', async () => {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const given = Object.fromEntries(Object.entries(randomInputs(2, 9, 3, 2)).map(([name, array]) => [name, tensorOf(array)]));
      const cut = (start: number, count: number) => ({
        ...given,
        ...Object.fromEntries(
          ['input', 'delta', 'inputMatrix', 'outputMatrix'].map((name) => [name, tf.slice(given[name]!, [0, start, 0], [2, count, -1])]),
        ),
      });
      const whole = selectiveScan(given as unknown as SelectiveScanInputs);
      for (const border of [1, 4, 8]) {
        const first = selectiveScan(cut(0, border) as unknown as SelectiveScanInputs);
        const second = selectiveScan({ ...cut(border, 9 - border), state: first.state } as unknown as SelectiveScanInputs);
        expect(tf.max(tf.abs(tf.sub(tf.concat([first.output, second.output], 1), whole.output))).dataSync()[0]!).toBeLessThan(1e-6);
        expect(tf.max(tf.abs(tf.sub(second.state, whole.state))).dataSync()[0]!).toBeLessThan(1e-6);
      }
    });
    expect(tf.memory().numTensors).toBe(before);
  });

  it('is finite and right for steps near 0 and at 100, and a transition near 0', async () => {
    const inputs = randomInputs(1, 4, 2, 2);
    const delta = array64([1, 4, 2], [100, 1e-30, 0, 100, 1e-30, 50, 100, 0].map(Math.fround));
    const transition = array64([2, 2], [-1e-30, -16, -100, -1].map(Math.fround));
    await checkKernelParity(backend, {
      ...parity,
      inputs: { ...inputs, delta, transition },
      differentiate: ['input', 'inputMatrix', 'outputMatrix', 'skip', 'state'],
    });
  });

  it.each(['tiny', 'medium', 'hard'])('equals the golden case %s', async (name) => {
    const golden = await readGoldenArrays(new URL(`../../golden/mamba-selective-scan/${name}.safetensors`, import.meta.url));
    const timeFirst = (key: string) => transposed64(golden[key]!, [0, 2, 1]);
    const channels = golden['in.u']!.shape[1]!;
    // the softplus of the step and the gate belong to the layer: they are done here, in double precision
    const [bias, skip] = [golden['param.delta_bias'], golden['param.D']];
    const delta = timeFirst('in.delta');
    delta.data.forEach((value, place) => (delta.data[place] = Math.log1p(Math.exp(value + (bias?.data[place % channels] ?? 0)))));
    const [output, cotangent] = [timeFirst('out.o'), timeFirst('cot.o')];
    timeFirst(golden['in.z'] ? 'in.z' : 'in.u').data.forEach((z, place) => {
      const gate = golden['in.z'] ? z / (1 + Math.exp(-z)) : 1;
      output.data[place] = output.data[place]! / gate;
      cotangent.data[place] = cotangent.data[place]! * gate;
    });
    await checkKernelGolden(backend, {
      inputs: {
        input: timeFirst('in.u'),
        delta,
        transition: golden['param.A']!,
        inputMatrix: timeFirst('in.B'),
        outputMatrix: timeFirst('in.C'),
        ...(skip && { skip }),
      },
      run: parity.run,
      outputs: { output, state: golden['out.final_state']! },
      cotangents: { output: cotangent, state: golden['cot.final_state']! },
      gradients: {
        input: timeFirst('grad.u'),
        transition: golden['grad.A']!,
        inputMatrix: timeFirst('grad.B'),
        outputMatrix: timeFirst('grad.C'),
        ...(skip && { skip: golden['grad.D']! }),
      },
    });
  });
});

describe('the door of selective scan', () => {
  const given = () => ({
    input: tf.ones([1, 2, 3]),
    delta: tf.ones([1, 2, 3]),
    transition: tf.ones([3, 4]),
    inputMatrix: tf.ones([1, 2, 4]),
    outputMatrix: tf.ones([1, 2, 4]),
  });
  it.each([
    ['an input of rank 4', { input: () => tf.ones([1, 2, 3, 1]) }],
    ['a delta per head', { delta: () => tf.ones([1, 2, 1]) }],
    ['other states', { inputMatrix: () => tf.ones([1, 2, 5]) }],
    ['a matrix without time', { outputMatrix: () => tf.ones([3, 4]) }],
    ['a transposed state', { state: () => tf.ones([1, 4, 3]) }],
    ['an integer skip', { skip: () => tf.ones([3], 'int32') }],
  ])('refuses %s', (_what, changed) => {
    const [[name, make]] = Object.entries(changed) as [[string, () => tf.Tensor]];
    expect(() => tf.tidy(() => selectiveScan({ ...given(), [name]: make() }))).toThrow(/^selective-scan: .* must be .*; got .*\. /);
  });
});
