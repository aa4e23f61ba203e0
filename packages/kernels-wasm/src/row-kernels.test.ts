import {
  adamWStep,
  causalConv1d,
  complexLinearScan,
  gatherRows,
  linearScan,
  rmsNorm,
  rotary,
  scatterAddRows,
  softmaxCrossEntropy,
} from '@seqloom/core';
import {
  array64,
  checkKernelParity,
  naiveAdamWStep,
  naiveCausalConv1d,
  naiveComplexLinearScan,
  naiveGatherRows,
  naiveLinearScan,
  naiveRmsNorm,
  naiveRotary,
  naiveScatterAddRows,
  naiveSoftmaxCrossEntropy,
  uniform64,
} from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import { it } from 'vitest';
import { describeBuilds } from './describe-builds.ts';

const odd = [1, 2, 3, 5, 7, 8, 13, 17, 33];

describeBuilds('RmsNorm', 'RmsNorm', () => {
  const run = async (width: number, options: object, which: readonly string[]): Promise<void> => {
    const all = { input: uniform64([2, 3, width], 1), weight: uniform64([width], 2), gate: uniform64([2, 3, width], 3, -3, 3) };
    const inputs = Object.fromEntries(Object.entries(all).filter(([name]) => name === 'input' || which.includes(name)));
    await checkKernelParity('wasm', {
      inputs,
      run: (tensors) => ({ output: rmsNorm(tensors as never, options) }),
      oracle: (arrays) => naiveRmsNorm(arrays as never, options),
      differentiate: ['input', 'weight', 'gate'],
    });
  };
  it.each(odd)('equals float64 at width %i', async (width) => {
    await run(width, { epsilon: 0.1 }, []);
    await run(width, { epsilon: 0.1 }, ['weight', 'gate']);
    await run(width, { epsilon: 0.1, normBeforeGate: false, gateActivation: 'sigmoid' }, ['weight', 'gate']);
  });
  it('normalises groups apart, with every gate', async () => {
    for (const normBeforeGate of [true, false])
      for (const gateActivation of ['silu', 'sigmoid'])
        for (const which of [['gate'], ['weight', 'gate']])
          await run(15, { groups: 3, normBeforeGate, gateActivation, epsilon: 0.01 }, which);
  });
});

describeBuilds('CausalConv1d', 'CausalConv1d', () => {
  it.each([1, 2, 3, 4, 5, 9])('equals float64 with %i taps', async (taps) => {
    for (const channels of [1, 3, 4, 7, 8])
      for (const [time, lengths] of [
        [1, undefined],
        [6, undefined],
        [6, [6, 2]],
        [3, [0, 3]],
      ] as [number, number[] | undefined][])
        for (const activation of ['none', 'silu'] as const) {
          if (lengths && channels > 3) continue;
          const given = (channels + time) % 2 === 0 || lengths !== undefined;
          const inputs = {
            input: uniform64([2, time, channels], 1),
            weight: uniform64([channels, taps], 2),
            ...(given && { bias: uniform64([channels], 3) }),
            ...(given && taps > 1 && { state: uniform64([2, taps - 1, channels], 4) }),
            ...(lengths && { lengths: array64([2], lengths) }),
          };
          await checkKernelParity('wasm', {
            inputs,
            integers: ['lengths'],
            run: (tensors) => causalConv1d(tensors as never, { activation }),
            oracle: (arrays) => naiveCausalConv1d(arrays as never, { activation }),
            differentiate: ['input', 'weight', 'bias', 'state'],
            lossTerms: taps > 1 ? ['output', 'state'] : ['output'],
          });
        }
  });
});

describeBuilds('Rotary', 'Rotary', () => {
  it.each([false, true])('equals float64, interleaved %s', async (interleaved) => {
    for (const [width, pairs] of [
      [2, 1],
      [8, 4],
      [16, 8],
      [11, 5],
      [20, 7],
      [9, 3],
    ] as const)
      for (const batch of [1, 2]) {
        const angles = uniform64([batch, 3, pairs], 9, -3, 3);
        const map = (f: (x: number) => number): Array64 =>
          array64(
            angles.shape,
            Float64Array.from(angles.data, (x) => Math.fround(f(x))),
          );
        await checkKernelParity('wasm', {
          inputs: { input: uniform64([2, 3, 2, width], 1), cos: map(Math.cos), sin: map(Math.sin) },
          run: (tensors) => ({ output: rotary(tensors as never, { interleaved }) }),
          oracle: (arrays) => naiveRotary(arrays as never, { interleaved }),
          differentiate: ['input'],
        });
      }
  });
});

describeBuilds('SoftmaxCrossEntropy', 'SoftmaxCrossEntropy', () => {
  it.each([1, 2, 3, 4, 7, 65, 256])('equals float64 over a vocabulary of %i', async (vocabulary) => {
    for (const options of [
      {},
      { labelSmoothing: 0.1 },
      { zLoss: 0.01 },
      { softCap: 2 },
      { labelSmoothing: 0.2, zLoss: 0.1, softCap: 1.5 },
    ]) {
      if (vocabulary === 1 && !('zLoss' in options)) continue;
      await checkKernelParity('wasm', {
        inputs: {
          logits: uniform64([5, vocabulary], vocabulary, -4, 4),
          labels: array64([5], [0, vocabulary - 1, -1, vocabulary >> 1, -7]),
        },
        integers: ['labels'],
        run: (tensors) => softmaxCrossEntropy(tensors as never, options),
        oracle: (arrays) => naiveSoftmaxCrossEntropy(arrays as never, options),
        differentiate: ['logits'],
      });
    }
  });
  it('keeps its digits at logits of 1e4', async () => {
    const logits = array64([2, 5], [1e4, 1e4 - 1, 9998, 0, -1e4, -1e4, -1e4, -1e4 - 2, -1e4 - 1, -2e4]);
    await checkKernelParity('wasm', {
      inputs: { logits, labels: array64([2], [1, 3]) },
      integers: ['labels'],
      run: (tensors) => softmaxCrossEntropy(tensors as never, {}),
      oracle: (arrays) => naiveSoftmaxCrossEntropy(arrays as never, {}),
      differentiate: ['logits'],
      lossTerms: ['loss'],
      step: 1e-9,
    });
  });
});

describeBuilds('GatherRows', 'GatherRows', () => {
  it.each([1, 3, 4, 9])('equals float64 at width %i, duplicates included', async (width) => {
    await checkKernelParity('wasm', {
      inputs: { table: uniform64([5, width], 1), indices: array64([2, 3], [4, 0, 4, 1, 2, 4]) },
      integers: ['indices'],
      run: (tensors) => ({ rows: gatherRows(tensors as never) }),
      oracle: (arrays) => naiveGatherRows(arrays as never),
      differentiate: ['table'],
    });
  });
});

describeBuilds('ScatterAddRows', 'ScatterAddRows', () => {
  it.each([1, 3, 4, 9])('equals float64 at width %i, duplicates included', async (width) => {
    await checkKernelParity('wasm', {
      inputs: { rows: uniform64([6, width], 1), indices: array64([6], [4, 0, 4, 1, 2, 4]) },
      integers: ['indices'],
      run: (tensors) => ({ table: scatterAddRows(tensors as never, { rowCount: 7 }) }),
      oracle: (arrays) => naiveScatterAddRows(arrays as never, { rowCount: 7 }),
      differentiate: ['rows'],
    });
  });
});

describeBuilds('AdamWStep', 'AdamWStep', () => {
  it.each([
    { learningRate: 0.1, step: 1 },
    { learningRate: 3e-2, step: 7, beta1: 0.8, beta2: 0.95, epsilon: 1e-3, weightDecay: 0.1, gradientScale: 0.25 },
    { learningRate: 0, step: 100_000, weightDecay: 1 },
  ])('equals float64 with %j', async (options) => {
    for (const shape of [[3, 5], [1], [], [2, 3, 4], [67]]) {
      await checkKernelParity('wasm', {
        inputs: {
          parameter: uniform64(shape, 1),
          gradient: uniform64(shape, 2, -1e-2, 1e-2),
          firstMoment: uniform64(shape, 3, -1e-2, 1e-2),
          secondMoment: uniform64(shape, 4, 0, 1e-4),
        },
        run: (tensors) => adamWStep(tensors as never, options),
        oracle: (arrays) => naiveAdamWStep(arrays as never, options),
        outputTolerance: 1e-6,
      });
    }
  });
});

describeBuilds('LinearScan', 'LinearScan', () => {
  it.each([false, true])('equals float64, reverse %s', async (reverse) => {
    for (const channels of [1, 3, 4, 6, 9])
      for (const time of [1, 2, 33])
        for (const state of [false, true])
          await checkKernelParity('wasm', {
            inputs: {
              decay: uniform64([2, time, channels], 1),
              input: uniform64([2, time, channels], 2),
              ...(state && { state: uniform64([2, channels], 3) }),
            },
            run: (tensors) => linearScan(tensors as never, { reverse }),
            oracle: (arrays) => naiveLinearScan(arrays as never, { reverse }),
            differentiate: state || time > 1 ? ['decay', 'input', 'state'] : ['input'],
          });
  });
});

describeBuilds('ComplexLinearScan', 'ComplexLinearScan', () => {
  it.each([false, true])('equals float64, reverse %s', async (reverse) => {
    for (const channels of [1, 4, 6])
      for (const time of [1, 2, 17])
        for (const state of [false, true]) {
          const shape = [2, time, channels];
          await checkKernelParity('wasm', {
            inputs: {
              decayReal: uniform64(shape, 1, -0.7, 0.7),
              decayImaginary: uniform64(shape, 2, -0.7, 0.7),
              inputReal: uniform64(shape, 3),
              inputImaginary: uniform64(shape, 4),
              ...(state && { stateReal: uniform64([2, channels], 5), stateImaginary: uniform64([2, channels], 6) }),
            },
            run: (tensors) => complexLinearScan(tensors as never, { reverse }),
            oracle: (arrays) => naiveComplexLinearScan(arrays as never, { reverse }),
            differentiate:
              state || time > 1
                ? ['decayReal', 'decayImaginary', 'inputReal', 'inputImaginary', 'stateReal', 'stateImaginary']
                : ['inputReal', 'inputImaginary'],
          });
        }
  });
});
