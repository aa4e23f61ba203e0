import {
  adamWStep,
  causalConv1d,
  expertMatMul,
  gatherRows,
  rotary,
  scatterAddRows,
  setupBackend,
  softmaxCrossEntropy,
  topK,
} from '@seqloom/core';
import {
  array64,
  checkKernelParity,
  kernelCases,
  naiveAdamWStep,
  naiveCausalConv1d,
  naiveExpertMatMul,
  naiveGatherRows,
  naiveRotary,
  naiveScatterAddRows,
  naiveSoftmaxCrossEntropy,
  naiveTopK,
  randomStream,
  uniform64,
} from '@seqloom/testing';
import type { Array64, KernelParityCase } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { useGpuKernels } from '../use-gpu-kernels.ts';

const check = (call: KernelParityCase): Promise<void> => checkKernelParity('webgpu', call);

/** Whole numbers from 0 to limit - 1, by chance. */
function draw(count: number, limit: number, seed: number): Array64 {
  const next = randomStream(seed);
  return array64(
    [count],
    Array.from({ length: count }, () => Math.floor(next() * limit)),
  );
}

beforeAll(async () => {
  await setupBackend('webgpu', { kernels: [useGpuKernels], strict: true });
});

describe('kernels by row in WGSL', () => {
  const ours = ['CausalConv1d', 'Rotary', 'SoftmaxCrossEntropy', 'GatherRows', 'ScatterAddRows', 'TopKRows', 'AdamWStep', 'ExpertMatMul'];
  it.each(kernelCases().filter(({ kernel }) => ours.includes(kernel)))('equal their oracles: $kernel $options', check);
});

describe('CausalConv1d in WGSL', () => {
  it.each([
    { time: 1, taps: 4, activation: 'silu' },
    { time: 65, taps: 1, activation: 'none' },
    { time: 100, taps: 3, activation: 'silu', lengths: [100, 7] },
    { time: 7, taps: 9, activation: 'none', lengths: [0, 3] },
  ] as const)('equals float64 with $taps taps over $time tokens', async ({ time, taps, activation, ...rest }) => {
    const lengths = 'lengths' in rest ? { lengths: array64([2], rest.lengths) } : {};
    await check({
      inputs: {
        input: uniform64([2, time, 3], 1),
        weight: uniform64([3, taps], 2),
        bias: uniform64([3], 3),
        ...(taps > 1 && { state: uniform64([2, taps - 1, 3], 4) }),
        ...lengths,
      },
      integers: ['lengths'],
      run: (inputs) => causalConv1d(inputs as never, { activation }),
      oracle: (inputs) => naiveCausalConv1d(inputs as never, { activation }),
      differentiate: ['input', 'weight', 'bias', 'state'],
      lossTerms: taps > 1 ? ['output', 'state'] : ['output'],
    });
  });
  it('does not read what stands at pads', async () => {
    const input = tf.tensor3d([1, 2, NaN, Infinity], [1, 4, 1]);
    const weight = tf.tensor2d([1, 1, 1], [1, 3]);
    const lengths = tf.tensor1d([2], 'int32');
    const run = (x: tf.Tensor, w: tf.Tensor) => causalConv1d({ input: x, weight: w, lengths });
    const { output, state } = run(input, weight);
    const [dInput, dWeight] = tf.grads((x, w) => tf.sum(run(x, w).output))([input, weight]);
    expect([...(await output.data())]).toEqual([1, 3, 0, 0]);
    expect([...(await state.data())]).toEqual([1, 2]);
    expect([...(await dInput!.data())]).toEqual([2, 1, 0, 0]);
    expect([...(await dWeight!.data())]).toEqual([0, 1, 3]);
    tf.dispose([input, weight, lengths, output, state, dInput!, dWeight!]);
  });
});

describe('Rotary in WGSL', () => {
  it.each([false, true])('equals float64 with angles per batch and channels that stay, interleaved %s', async (interleaved) => {
    const angles = uniform64([2, 65, 2], 9, -3, 3);
    const map = (f: (x: number) => number): Array64 =>
      array64(
        angles.shape,
        Float64Array.from(angles.data, (x) => Math.fround(f(x))),
      );
    await check({
      inputs: { input: uniform64([2, 65, 3, 7], 1), cos: map(Math.cos), sin: map(Math.sin) },
      run: (inputs) => ({ output: rotary(inputs as never, { interleaved }) }),
      oracle: (inputs) => naiveRotary(inputs as never, { interleaved }),
      differentiate: ['input'],
    });
  });
});

describe('SoftmaxCrossEntropy in WGSL', () => {
  it.each([1, 65, 300])('equals float64 over a vocabulary of %i', async (vocabulary) => {
    const options = { labelSmoothing: 0.2, zLoss: 0.1, softCap: 1.5 };
    await check({
      inputs: { logits: uniform64([4, vocabulary], vocabulary, -4, 4), labels: array64([4], [0, vocabulary - 1, -1, vocabulary >> 1]) },
      integers: ['labels'],
      run: (inputs) => softmaxCrossEntropy(inputs as never, options),
      oracle: (inputs) => naiveSoftmaxCrossEntropy(inputs as never, options),
      differentiate: ['logits'],
    });
  });
  it('keeps its digits at logits of 1e4', async () => {
    const logits = array64([2, 5], [1e4, 1e4 - 1, 9998, 0, -1e4, -1e4, -1e4, -1e4 - 2, -1e4 - 1, -2e4]);
    await check({
      inputs: { logits, labels: array64([2], [1, 3]) },
      integers: ['labels'],
      run: (inputs) => softmaxCrossEntropy(inputs as never, {}),
      oracle: (inputs) => naiveSoftmaxCrossEntropy(inputs as never, {}),
      differentiate: ['logits'],
      lossTerms: ['loss'],
      step: 1e-9,
    });
  });
  it('passes NaN on', async () => {
    const [logits, labels] = [tf.tensor2d([[1, NaN, 2, 3]]), tf.tensor1d([0], 'int32')];
    const { loss, logSumExp } = softmaxCrossEntropy({ logits, labels });
    expect([...(await loss.data()), ...(await logSumExp.data())]).toEqual([NaN, NaN]);
    tf.dispose([logits, labels, loss, logSumExp]);
  });
});

describe('GatherRows and ScatterAddRows in WGSL', () => {
  it.each([
    { count: 700, limit: 3, width: 1 },
    { count: 600, limit: 1000, width: 2 },
    { count: 257, limit: 1, width: 3 },
  ])('add up $count rows into $limit', async ({ count, limit, width }) => {
    await check({
      inputs: { rows: uniform64([count, width], 1), indices: draw(count, limit, 2) },
      integers: ['indices'],
      run: (inputs) => ({ table: scatterAddRows(inputs as never, { rowCount: limit + 2 }) }),
      oracle: (inputs) => naiveScatterAddRows(inputs as never, { rowCount: limit + 2 }),
    });
  });
  it('equal float64 with indices of rank 2', () =>
    check({
      inputs: { table: uniform64([5, 70], 1), indices: array64([2, 3], [4, 0, 4, 1, 2, 4]) },
      integers: ['indices'],
      run: (inputs) => ({ rows: gatherRows(inputs as never) }),
      oracle: (inputs) => naiveGatherRows(inputs as never),
      differentiate: ['table'],
    }));
  it('take no rows, and ignore indices out of range', async () => {
    const [rows, none] = [tf.zeros([0, 3]), tf.tensor1d([], 'int32')];
    const empty = scatterAddRows({ rows, indices: none }, { rowCount: 2 });
    const [table, indices] = [tf.ones([2, 1]), tf.tensor1d([1, 2, -1], 'int32')];
    const gathered = gatherRows({ table, indices });
    expect([...(await empty.data()), ...(await gathered.data())]).toEqual([0, 0, 0, 0, 0, 0, 1, 0, 0]);
    tf.dispose([rows, none, empty, table, indices, gathered]);
  });
});

describe('TopKRows in WGSL', () => {
  it.each([
    { width: 1, k: 1 },
    { width: 65, k: 65 },
    { width: 300, k: 7 },
  ])('equals float64: $k of $width', ({ width, k }) =>
    check({
      inputs: { input: uniform64([3, width], 1) },
      run: (inputs) => topK(inputs as never, { k }),
      oracle: (inputs) => naiveTopK(inputs as never, { k }),
      differentiate: ['input'],
      lossTerms: ['values'],
    }),
  );
  it('orders infinities and zeros of both signs', async () => {
    const input = tf.tensor2d([[-Infinity, 0, -0, Infinity, -Infinity, 5, 0, Infinity]]);
    const { values, indices } = topK({ input }, { k: 8 });
    expect([...(await indices.data())]).toEqual([3, 7, 5, 1, 2, 6, 0, 4]);
    expect([...(await values.data())]).toEqual([Infinity, Infinity, 5, 0, -0, 0, -Infinity, -Infinity]);
    tf.dispose([input, values, indices]);
  });
});

describe('AdamWStep in WGSL', () => {
  it.each([
    { learningRate: 3e-2, step: 7, beta1: 0.8, beta2: 0.95, epsilon: 1e-3, weightDecay: 0.1, gradientScale: 0.25 },
    { learningRate: 0, step: 100_000, weightDecay: 1 },
  ])('equals float64 with %j', async (options) => {
    for (const shape of [[], [300]])
      await check({
        inputs: {
          parameter: uniform64(shape, 1),
          gradient: uniform64(shape, 2, -1e-2, 1e-2),
          firstMoment: uniform64(shape, 3, -1e-2, 1e-2),
          secondMoment: uniform64(shape, 4, 0, 1e-4),
        },
        run: (inputs) => adamWStep(inputs as never, options),
        oracle: (inputs) => naiveAdamWStep(inputs as never, options),
        outputTolerance: 1e-6,
      });
  });
});

describe('ExpertMatMul in WGSL', () => {
  it.each([
    { rows: 300, count: 3, inner: 20, outer: 70 },
    { rows: 65, count: 70, inner: 7, outer: 5 },
    { rows: 1, count: 2, inner: 65, outer: 3 },
  ])('equals float64: $rows rows, $count experts', async ({ rows, count, inner, outer }) => {
    const experts = draw(rows, count + 1, 3);
    await check({
      inputs: {
        input: uniform64([rows, inner], 1),
        // some rows have none
        experts: { shape: [rows], data: experts.data.map((expert) => (rows === 1 ? 1 : expert - 1)) },
        weight: uniform64([count, inner, outer], 2),
      },
      integers: ['experts'],
      run: (inputs) => ({ output: expertMatMul(inputs as never) }),
      oracle: (inputs) => naiveExpertMatMul(inputs as never),
      differentiate: rows * inner * outer * count < 200_000 ? ['input', 'weight'] : [],
    });
  });
  it('gives zeros to rows without an expert, whatever they hold, and takes no rows', async () => {
    const [input, weight] = [tf.tensor2d([NaN, Infinity], [2, 1]), tf.ones([2, 1, 1])];
    const [experts, none, nobody] = [tf.tensor1d([-1, -1], 'int32'), tf.zeros([0, 1]), tf.tensor1d([], 'int32')];
    const output = expertMatMul({ input, experts, weight });
    const empty = expertMatMul({ input: none, experts: nobody, weight });
    expect([...(await output.data())]).toEqual([0, 0]);
    expect(empty.shape).toEqual([0, 1]);
    tf.dispose([input, weight, experts, none, nobody, output, empty]);
  });
});
