import { array64, centralDifferences, naiveBlockAttention, naiveSoftmaxAttention, randomStream, uniform64 } from '@seqloom/testing';
import type { Array64, NaiveSoftmaxAttentionInputs, NaiveSoftmaxAttentionOptions } from '@seqloom/testing';
import { expect, it } from 'vitest';
import { describeModes, expectClose, given } from './describe-modes.ts';
import { blockAttention, blockAttentionGradient, softmaxAttention, softmaxAttentionGradient } from './index.ts';

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
    ['sinks in the second block, on both sides of a window', { time: 9, keys: 9 }, {}, { window: 2, sinks: 6 }],
    ['many more queries than keys', { time: 17, keys: 6 }, {}, { window: 12 }],
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
  });

  it('is differentiable without a gradient of its log-sum-exp', async () => {
    const inputs = { ...sequences(small), sinkLogits: uniform64([4], 4) };
    const oracle = (x: typeof inputs): Outputs => naiveSoftmaxAttention(x, { causal: true });
    const cotangent = uniform64([2, 7, 4, 5], 5);
    const points = given({ ...inputs, ...oracle(inputs), cotangent });
    const wanted = centralDifferences(oracle, inputs, { output: cotangent }, ['query', 'key', 'value', 'sinkLogits']);
    expectClose('softmaxAttentionGradient', await softmaxAttentionGradient(current.gpujs, points, { causal: true, blockSize: 4 }), wanted);
  });

  it('-Infinity in a bias hides a key', async () => {
    const inputs = sequences({ ...small, batch: 1, time: 4, keys: 4 });
    // the last query sees nothing
    const bias = array64([1, 1, 4, 4], [-Infinity, 0, 0, 0, 0, 0, -Infinity, -Infinity, 1, 2, 3, 4, ...Array(4).fill(-Infinity)]);
    const wanted = naiveSoftmaxAttention({ ...inputs, bias });
    const found = await softmaxAttention(current.gpujs, given({ ...inputs, bias }), { blockSize: 3 });
    expectClose('softmaxAttention', found, wanted);
    const cotangents = { output: uniform64(wanted.output.shape, 5), logSumExp: uniform64(wanted.logSumExp.shape, 6) };
    const oracle = (x: typeof inputs): Outputs => differentiable(naiveSoftmaxAttention({ ...x, bias }));
    const points = given({ ...inputs, bias, cotangent: cotangents.output, logSumExpCotangent: cotangents.logSumExp });
    const gradients = await softmaxAttentionGradient(current.gpujs, { ...points, ...found }, { blockSize: 3 });
    expectClose('softmaxAttentionGradient', gradients, centralDifferences(oracle, inputs, cotangents, ['query', 'key', 'value']));
    expect([...(gradients.bias!.data as Float32Array)].filter((_, place) => bias.data[place] === -Infinity)).toEqual(Array(7).fill(0));
  });

  it('scores of 1e4', async () => {
    const inputs = {
      query: uniform64([1, 5, 1, 2], 1, -100, 100),
      key: uniform64([1, 5, 1, 2], 2, -100, 100),
      value: uniform64([1, 5, 1, 2], 3),
      sinkLogits: array64([1], [100]),
    };
    const found = await softmaxAttention(current.gpujs, given(inputs), { scale: 1, blockSize: 2 });
    expectClose('softmaxAttention', found, naiveSoftmaxAttention(inputs, { scale: 1 }));
  });
});

interface Lists {
  readonly queryBlock: number;
  readonly keyBlock: number;
  readonly chosen: number;
}

/** Every query block takes `chosen` different key blocks, with -1 in place of about a quarter of them. */
function randomBlocks({ batch, time, keys, groups }: Shape, { queryBlock, keyBlock, chosen }: Lists): Array64 {
  const next = randomStream(9);
  const queryBlocks = Math.ceil(time / queryBlock);
  const lists = Array.from({ length: batch * groups * queryBlocks }, () => {
    const order = Array.from({ length: Math.ceil(keys / keyBlock) }, (_, block) => ({ block, rank: next() }));
    order.sort((left, right) => left.rank - right.rank);
    return Array.from({ length: chosen }, (_, place) => (next() < 0.25 ? -1 : (order[place]?.block ?? -1)));
  });
  return array64([batch, groups, queryBlocks, chosen], lists.flat());
}

describeModes('block attention', (current) => {
  it.each<[string, Partial<Shape & Lists>, { causal?: boolean; scale?: number }]>([
    ['grouped heads, uneven ends', {}, { causal: true }],
    ['grouped heads, uneven ends, a scale of its own', {}, { scale: 0.3 }],
    ['one query', { time: 1, keys: 6, queryBlock: 4, keyBlock: 4 }, { causal: true }],
    ['more keys than queries', { time: 3, keys: 11, heads: 2, groups: 1, chosen: 3 }, { causal: true }],
    ['more queries than keys', { time: 9, keys: 4, chosen: 2 }, { causal: true }],
    ['more places than blocks', { time: 5, keys: 4, chosen: 4, groups: 4 }, {}],
    ['blocks of one', { queryBlock: 1, keyBlock: 1, chosen: 3, batch: 1 }, { causal: true }],
    ['blocks longer than the sequence', { queryBlock: 16, keyBlock: 16, chosen: 1 }, { causal: true }],
    [
      '65 tokens',
      { batch: 1, time: 65, keys: 65, heads: 2, groups: 1, width: 2, queryBlock: 16, keyBlock: 8, chosen: 3 },
      { causal: true },
    ],
  ])('%s', async (_name, changed, options) => {
    const { gpujs } = current;
    const { queryBlock, keyBlock, chosen, ...shape } = { ...small, queryBlock: 2, keyBlock: 3, chosen: 2, ...changed };
    const inputs = sequences(shape);
    const blocks = randomBlocks(shape, { queryBlock, keyBlock, chosen });
    const settings = { ...options, queryBlock, keyBlock };
    const naive = (x: typeof inputs): Outputs => naiveBlockAttention({ ...x, blocks }, settings);
    const wanted = naive(inputs);
    const ints = { blocks: Int32Array.from(blocks.data) };
    const found = await blockAttention(gpujs, { ...given(inputs), ...ints }, settings);
    expectClose('blockAttention', found, wanted);

    const cotangents = { output: uniform64(wanted.output.shape, 20), logSumExp: uniform64(wanted.logSumExp.shape, 21) };
    const points = given({ ...inputs, cotangent: cotangents.output, logSumExpCotangent: cotangents.logSumExp });
    const gradients = await blockAttentionGradient(gpujs, { ...points, ...found, ...ints }, settings);
    const numeric = centralDifferences((x: typeof inputs) => differentiable(naive(x)), inputs, cotangents, ['query', 'key', 'value']);
    expectClose('blockAttentionGradient', gradients, numeric);
  });

  it('is full attention when every block is listed, and finite for scores of 1e4', async () => {
    const shape = { ...small, time: 9, keys: 9 };
    const inputs = sequences(shape);
    const blocks = Int32Array.from({ length: 2 * 2 * 5 * 3 }, (_, place) => place % 3);
    const large = array64(
      inputs.query.shape,
      inputs.query.data.map((number) => number * 4096),
    );
    for (const query of [inputs.query, large]) {
      const options = { queryBlock: 2, keyBlock: 3, causal: true };
      const found = await blockAttention(current.gpujs, { ...given({ ...inputs, query }), blocks }, options);
      expectClose('blockAttention', found, naiveSoftmaxAttention({ ...inputs, query }, { causal: true }));
    }
  });

  it('gives zeros, -Infinity and zero gradients where no block is listed', async () => {
    const inputs = given(sequences(small));
    const blocks = new Int32Array(2 * 2 * 4 * 2).fill(-1);
    const options = { queryBlock: 2, keyBlock: 3 };
    const found = await blockAttention(current.gpujs, { ...inputs, blocks }, options);
    expect(new Set(found.output.data as Float32Array)).toEqual(new Set([0]));
    expect(new Set(found.logSumExp.data as Float32Array)).toEqual(new Set([-Infinity]));
    const cotangents = given({ cotangent: uniform64([2, 7, 4, 5], 4), logSumExpCotangent: uniform64([2, 7, 4], 5) });
    const gradients = await blockAttentionGradient(current.gpujs, { ...inputs, ...found, ...cotangents, blocks }, options);
    for (const { data } of Object.values(gradients)) expect([...(data as Float32Array)].every((number) => number === 0)).toBe(true);
  });
});
