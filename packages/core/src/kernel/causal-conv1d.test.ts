import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import {
  array64,
  checkKernelGolden,
  checkKernelParity,
  naiveCausalConv1d,
  readGoldenArrays,
  transposed64,
  uniform64,
} from '@seqloom/testing';
import { causalConv1d } from './causal-conv1d.ts';
import type { CausalConv1dInputs } from './causal-conv1d.ts';

describe.each(['cpu', 'wasm'])('causal convolution on %s', (backend) => {
  it.each(['none', 'silu'] as const)('equals its oracle with activation %s', async (activation) => {
    for (const [batch, time, channels, taps, lengths] of [
      [2, 7, 3, 4, undefined],
      [2, 1, 3, 4, undefined],
      [1, 2, 5, 4, undefined],
      [2, 5, 2, 1, undefined],
      [1, 65, 2, 2, undefined],
      [1, 3, 1, 17, undefined],
      [4, 7, 3, 4, [7, 5, 1, 0]],
      [2, 2, 3, 4, [1, 2]],
      [2, 3, 2, 1, [1, 3]],
    ] as const) {
      for (const names of [
        ['input', 'weight', 'bias', 'state'],
        ['input', 'weight'],
      ]) {
        const all = {
          input: uniform64([batch, time, channels], 1),
          weight: uniform64([channels, taps], 2),
          bias: uniform64([channels], 3),
          state: uniform64([batch, taps - 1, channels], 4),
        };
        for (const integers of lengths ? [['lengths'], []] : [[]]) {
          await checkKernelParity(backend, {
            inputs: {
              ...Object.fromEntries(names.map((name) => [name, all[name as keyof typeof all]])),
              ...(lengths && { lengths: array64([batch], lengths) }),
            },
            integers,
            run: (inputs) => causalConv1d(inputs as CausalConv1dInputs, { activation }),
            oracle: (inputs) => naiveCausalConv1d(inputs as never, { activation }),
            differentiate: names,
            outputTolerance: 2e-6,
            gradientTolerance: 1e-5,
          });
        }
      }
    }
  });

  it('continues from its state: pieces equal the whole, bit for bit in the state', async () => {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    const [input, weight] = [tf.randomNormal([2, 11, 3], 0, 1, 'float32', 5), tf.randomNormal([3, 4], 0, 1, 'float32', 6)];
    const whole = causalConv1d({ input, weight }, { activation: 'silu' });
    const outputs: tf.Tensor[] = [];
    let state: tf.Tensor | undefined;
    let start = 0;
    for (const size of [1, 2, 1, 5, 2]) {
      const piece = tf.slice(input, [0, start, 0], [2, size, 3]);
      const next = causalConv1d({ input: piece, weight, state }, { activation: 'silu' });
      tf.dispose([piece, ...(state ? [state] : [])]);
      ({ state } = next);
      outputs.push(next.output);
      start += size;
    }
    const joined = tf.concat(outputs, 1);
    const [given, wanted] = [await joined.data(), await whole.output.data()];
    given.forEach((value, place) => expect(value).toBeCloseTo(wanted[place]!, 5));
    expect(await state!.data()).toEqual(await whole.state.data());
    tf.dispose([input, weight, whole.output, whole.state, joined, state!, ...outputs]);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('does not let NaN in the padding through, forward or backward', async () => {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const input = tf.tensor3d([1, 2, Number.NaN, Number.NaN, 5, 6], [2, 3, 1]);
      const lengths = tf.tensor1d([2, 0], 'int32');
      const weight = tf.tensor2d([[1, 10]]);
      const run = (x: tf.Tensor, w: tf.Tensor) => causalConv1d({ input: x, weight: w, lengths });
      expect(Array.from(run(input, weight).output.dataSync())).toEqual([10, 21, 0, 0, 0, 0]);
      expect(Array.from(run(input, weight).state.dataSync())).toEqual([2, 0]);
      const [dInput, dWeight] = tf.grads((x, w) => run(x!, w!).output)([input, weight], tf.ones([2, 3, 1]));
      expect(Array.from(dInput!.dataSync())).toEqual([11, 10, 0, 0, 0, 0]);
      expect(Array.from(dWeight!.dataSync())).toEqual([1, 3]);
    });
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each(['tiny', 'medium', 'state', 'nobias', 'short'])('equals the golden case %s', async (name) => {
    const golden = await readGoldenArrays(new URL(`../../golden/causal-conv1d/${name}.safetensors`, import.meta.url));
    const timeFirst = (key: string) => transposed64(golden[key]!, [0, 2, 1]);
    const activation = name === 'tiny' || name === 'nobias' ? 'none' : 'silu';
    const [bias, state] = ['param.bias' in golden, 'in.initial_states' in golden];
    await checkKernelGolden(backend, {
      inputs: {
        input: timeFirst('in.x'),
        weight: golden['param.weight']!,
        ...(bias && { bias: golden['param.bias']! }),
        ...(state && { state: timeFirst('in.initial_states') }),
      },
      run: (inputs) => causalConv1d(inputs as CausalConv1dInputs, { activation }),
      outputs: { output: timeFirst('out.o'), state: timeFirst('out.final_states') },
      cotangents: { output: timeFirst('cot.o'), state: timeFirst('cot.final_states') },
      gradients: {
        input: timeFirst('grad.x'),
        weight: golden['grad.weight']!,
        ...(bias && { bias: golden['grad.bias']! }),
        ...(state && { state: timeFirst('grad.initial_states') }),
      },
    });
  });
});

describe('the door of causal convolution', () => {
  const [input, weight] = [() => tf.ones([2, 3, 4]), () => tf.ones([4, 2])];
  it.each([
    ['rank 2', () => causalConv1d({ input: tf.ones([3, 4]), weight: weight() })],
    ['no time', () => causalConv1d({ input: tf.ones([2, 0, 4]), weight: weight() })],
    ['other channels', () => causalConv1d({ input: input(), weight: tf.ones([3, 2]) })],
    ['a long state', () => causalConv1d({ input: input(), weight: weight(), state: tf.ones([2, 2, 4]) })],
    ['a short bias', () => causalConv1d({ input: input(), weight: weight(), bias: tf.ones([3]) })],
    ['lengths of another batch', () => causalConv1d({ input: input(), weight: weight(), lengths: tf.ones([3]) })],
    ['a length beyond the input', () => causalConv1d({ input: input(), weight: weight(), lengths: tf.tensor1d([4, 0], 'int32') })],
    ['another activation', () => causalConv1d({ input: input(), weight: weight() }, { activation: 'relu' as never })],
  ])('refuses %s', (_what, call) => {
    expect(() => tf.tidy(call)).toThrow(/^causal-conv1d: .* must be .*; got .*\. /);
  });
});
