import { array64, centralDifferences, naiveSoftmaxAttention, randomStream, uniform64 } from '@seqloom/testing';
import type { Array64, NaiveSoftmaxAttentionInputs, NaiveSoftmaxAttentionOptions } from '@seqloom/testing';
import { expect, it } from 'vitest';
import { describeModes, expectClose, given } from './describe-modes.ts';
import { softmaxAttention, softmaxAttentionGradient } from './index.ts';

type Outputs = { output: Array64; logSumExp: Array64 };

/** The log-sum-exp of a row that sees nothing has no derivative: as a constant it has none. */
function differentiable({ output, logSumExp }: Outputs): Outputs {
  return { output, logSumExp: { shape: logSumExp.shape, data: logSumExp.data.map((sum) => (sum === -Infinity ? 0 : sum)) } };
}

interface Shape {
  readonly batch: number;
  readonly time: number;
  readonly keys: number;
  readonly heads: number;
  readonly groups: number;
  readonly width: number;
  readonly valueWidth: number;
}

const small: Shape = { batch: 2, time: 7, keys: 7, heads: 4, groups: 2, width: 3, valueWidth: 5 };

function sequences({ batch, time, keys, heads, groups, width, valueWidth }: Shape) {
  return {
    query: uniform64([batch, time, heads, width], 1, -2, 2),
    key: uniform64([batch, keys, groups, width], 2, -2, 2),
    value: uniform64([batch, keys, groups, valueWidth], 3),
  };
}

/** Whole numbers from `low` up to, not including, `high`. */
function wholes(shape: number[], seed: number, low: number, high: number): Array64 {
  const next = randomStream(seed);
  return array64(
    shape,
    Array.from({ length: shape.reduce((product, extent) => product * extent) }, () => Math.floor(low + (high - low) * next())),
  );
}

describeModes('softmax attention', (current) => {
  type Extra = Omit<NaiveSoftmaxAttentionInputs, 'query' | 'key' | 'value'>;
  it.each<[string, Partial<Shape>, Extra, NaiveSoftmaxAttentionOptions & { aligned?: boolean; blockSize?: number }]>([
    ['one query', { time: 1, keys: 9 }, {}, { causal: true }],
    ['window, sinks and soft cap', {}, {}, { causal: true, window: 3, sinks: 1, softCap: 2 }],
    ['a window on both sides', { time: 6, keys: 9 }, {}, { window: 2, sinks: 1 }],
    ['dilation, and a scale of its own', { keys: 10 }, {}, { dilation: 2, scale: 1.5 }],
    ['prefix', { time: 5, keys: 5 }, {}, { causal: true, prefix: 3 }],
    ['first queries see nothing', { time: 6, keys: 4 }, {}, { causal: true }],
    ['the default block of keys, one key head per head', { groups: 4 }, {}, { causal: true, blockSize: undefined }],
    ['65 keys', { batch: 1, time: 3, keys: 65, width: 5, valueWidth: 2 }, {}, { causal: true, window: 40, blockSize: 16 }],
    [
      'positions, with keys that do not exist',
      {},
      { queryPositions: wholes([2, 7], 4, 0, 9), keyPositions: wholes([2, 7], 5, -1, 9) },
      { causal: true, window: 5, sinks: 2, dilation: 2, prefix: 1 },
    ],
    ['aligned key positions', {}, { keyPositions: array64([2, 7], [0, 1, -1, 3, 4, -1, 6, -1, 1, 2, 3, -1, 5, 6]) }, { aligned: true }],
    ['query positions alone', { keys: 9 }, { queryPositions: wholes([2, 7], 6, -1, 10) }, { causal: true, dilation: 3 }],
    ['a bias per row and head, under a soft cap', {}, { bias: uniform64([2, 4, 7, 7], 7) }, { causal: true, softCap: 1.5 }],
    ['a bias for all rows', { keys: 10 }, { bias: uniform64([1, 4, 7, 10], 8) }, {}],
    ['a bias for all heads', { keys: 6 }, { bias: uniform64([2, 1, 7, 6], 9) }, { window: 4 }],
    ['one bias', { groups: 1 }, { bias: uniform64([1, 1, 7, 7], 10) }, { causal: true }],
    ['slopes', { keys: 9 }, { slopes: uniform64([4], 11, 0, 1) }, { causal: true, softCap: 2 }],
    ['sink logits, and rows with nothing else', { time: 6, keys: 4 }, { sinkLogits: uniform64([4], 12, -2, 2) }, { causal: true }],
    [
      'everything',
      { batch: 3, time: 5, keys: 9, heads: 6 },
      {
        queryPositions: wholes([3, 5], 13, 0, 12),
        keyPositions: wholes([3, 9], 14, -1, 12),
        bias: uniform64([1, 6, 5, 9], 15),
        slopes: uniform64([6], 16, 0, 1),
        sinkLogits: uniform64([6], 17, -2, 2),
      },
      { causal: true, window: 7, sinks: 1, prefix: 1, softCap: 3, scale: 0.8 },
    ],
  ])('%s', async (_name, changed, extra, chosen) => {
    const { gpujs } = current;
    const inputs = { ...sequences({ ...small, ...changed }), ...extra };
    const { aligned, blockSize, ...rules } = { blockSize: 4, ...chosen };
    const options = { ...rules, ...(aligned && { aligned }), ...(blockSize && { blockSize }) };
    const wanted = naiveSoftmaxAttention(inputs, rules);
    const found = await softmaxAttention(gpujs, given(inputs), options);
    expectClose('softmaxAttention', found, wanted);

    const cotangents = { output: uniform64(wanted.output.shape, 20), logSumExp: uniform64(wanted.logSumExp.shape, 21) };
    const oracle = (x: typeof inputs): Outputs => differentiable(naiveSoftmaxAttention(x, rules));
    const names = ['query', 'key', 'value', 'bias', 'sinkLogits', 'slopes'] as const;
    const points = { ...given({ ...inputs, cotangent: cotangents.output, logSumExpCotangent: cotangents.logSumExp }), ...found };
    const gradients = await softmaxAttentionGradient(gpujs, points, options);
    const numeric = centralDifferences(oracle, inputs, cotangents, names);
    expectClose('softmaxAttentionGradient', gradients, numeric);
    expect(Object.keys(gradients)).toEqual(names.filter((name) => inputs[name]));

    const { logSumExpCotangent: _, ...without } = points;
    const ofOutput = centralDifferences(oracle, inputs, { output: cotangents.output }, ['query', 'key', 'value']);
    expectClose('without a gradient of logSumExp', await softmaxAttentionGradient(gpujs, without, options), ofOutput);
  });
});
