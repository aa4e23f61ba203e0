import {
  array64,
  centralDifferences,
  naiveAdamWStep,
  naiveCausalConv1d,
  naiveExpertMatMul,
  naiveGatherRows,
  naiveScatterAddRows,
  naiveTopK,
  uniform64,
} from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import { expect, it } from 'vitest';
import { describeModes, expectClose, given } from './describe-modes.ts';
import {
  adamWStep,
  causalConv1d,
  causalConv1dGradient,
  expertMatMul,
  expertMatMulGradient,
  gatherRows,
  gatherRowsGradient,
  scatterAddRows,
  scatterAddRowsGradient,
  topKRows,
  topKRowsGradient,
} from './index.ts';
import type { GpujsArray } from './index.ts';

function wholes(numbers: readonly number[]): { ints: Int32Array; doubles: Array64 } {
  return { ints: Int32Array.from(numbers), doubles: array64([numbers.length], numbers) };
}

const list = ({ data }: GpujsArray): number[] => [...(data as Float32Array)];

describeModes('gpu.js kernels of rows', (current) => {
  it.each([
    // few of a row are looked for one by one, many by their ranks
    { shape: [3, 65], k: 1 },
    { shape: [3, 65], k: 11 },
    { shape: [3, 65], k: 12 },
    { shape: [2, 3, 7], k: 7 },
    { shape: [7], k: 3 },
    { shape: [5, 1], k: 1 },
  ])('topKRows %j', async ({ shape, k }) => {
    const input = uniform64(shape, 1, -3, 3);
    // equal values
    input.data.forEach((value, place) => (input.data[place] = Math.round(value * 4) / 4));
    const wanted = naiveTopK({ input }, { k });
    const found = await topKRows(current.gpujs, given({ input }), { k });
    expect(found.values.shape).toEqual([...shape.slice(0, -1), k]);
    expect(found.indices.shape).toEqual(found.values.shape);
    expect(list(found.values)).toEqual([...wanted.values.data]);
    expect(list(found.indices)).toEqual([...wanted.indices.data]);
    const cotangent = uniform64(wanted.values.shape, 2);
    const { input: gradient } = await topKRowsGradient(
      current.gpujs,
      { indices: found.indices, ...given({ cotangent }) },
      { width: shape.at(-1)! },
    );
    // what each kept place is given, and zero elsewhere
    const places = array64(shape);
    wanted.indices.data.forEach((index, place) => {
      places.data[Math.floor(place / k) * shape.at(-1)! + index] = cotangent.data[place]!;
    });
    expect(gradient.shape).toEqual(shape);
    expect(list(gradient)).toEqual([...places.data]);
  });

  it.each([2, 7])('topKRows with infinities and zeros of both signs, k = %i', async (k) => {
    const input = array64(
      [3, 7],
      [
        ...[-Infinity, 1, Infinity, -1, Infinity, 0, -Infinity],
        ...new Array<number>(7).fill(-Infinity),
        ...[-0, 0, -1, 3e38, 0, -0, -3e38],
      ],
    );
    const { values, indices } = await topKRows(current.gpujs, given({ input }), { k });
    const wanted = naiveTopK({ input }, { k });
    expect(list(indices)).toEqual([...wanted.indices.data]);
    // zeros of both signs are equal
    expect(list(values).map((value) => value + 0)).toEqual([...wanted.values.data].map((value) => Math.fround(value + 0)));
  });

  it.each([
    { indices: [4, 0, 4, 2, 0, 5, 4], rowCount: 7, width: 3 },
    { indices: [0], rowCount: 1, width: 1 },
    { indices: Array.from({ length: 65 }, (_, place) => (place * 37) % 5), rowCount: 6, width: 9 },
  ])('scatterAddRows and gatherRows, rowCount $rowCount, width $width', async ({ indices, rowCount, width }) => {
    const { ints, doubles } = wholes(indices);
    const [rows, table] = [uniform64([indices.length, width], 1), uniform64([rowCount, width], 2)];
    const added = (x: { rows: Array64 }): { table: Array64 } => naiveScatterAddRows({ ...x, indices: doubles }, { rowCount });
    const gathered = (x: { table: Array64 }): { rows: Array64 } => naiveGatherRows({ ...x, indices: doubles });
    expectClose(
      'scatterAddRows',
      await scatterAddRows(current.gpujs, { ...given({ rows }), indices: ints }, { rowCount }),
      added({ rows }),
    );
    expectClose('gatherRows', await gatherRows(current.gpujs, { ...given({ table }), indices: ints }), gathered({ table }));
    expectClose(
      'scatterAddRowsGradient',
      await scatterAddRowsGradient(current.gpujs, { cotangent: given({ table }).table, indices: ints }),
      centralDifferences(added, { rows }, { table }, ['rows']),
    );
    expectClose(
      'gatherRowsGradient',
      await gatherRowsGradient(current.gpujs, { cotangent: given({ rows }).rows, indices: ints }, { rowCount }),
      centralDifferences(gathered, { table }, { rows }, ['table']),
    );
  });

  it.each([
    { shape: [5, 7], options: { learningRate: 0.01, step: 1 } },
    {
      shape: [2, 3, 5],
      options: { learningRate: 0.1, step: 9, beta1: 0.8, beta2: 0.95, epsilon: 0.01, weightDecay: 0.3, gradientScale: 0.4 },
    },
    { shape: [], options: { learningRate: 0.02, step: 3, beta1: 0, beta2: 0, weightDecay: 0.1 } },
  ])('adamWStep %j', async ({ shape, options }) => {
    const inputs = {
      parameter: uniform64(shape, 1),
      gradient: uniform64(shape, 2, -3, 3),
      firstMoment: uniform64(shape, 3),
      secondMoment: uniform64(shape, 4, 0, 2),
    };
    expectClose('adamWStep', await adamWStep(current.gpujs, given(inputs), options), naiveAdamWStep(inputs, options));
  });

  it('a hundred steps of adamWStep share one plan and follow the oracle', async () => {
    const target = uniform64([3, 5], 9);
    const plans = (): number => current.gpujs.report().filter(({ kernel }) => kernel === 'adamWStep').length;
    const begin = { parameter: uniform64([3, 5], 1), firstMoment: array64([3, 5]), secondMoment: array64([3, 5]) };
    let [wanted, found] = [begin, given(begin)];
    const before = plans();
    for (let step = 1; step <= 100; step++) {
      const options = { learningRate: 0.1 / Math.sqrt(step), step, weightDecay: 0.01 };
      const slope = (parameter: ArrayLike<number>): number[] => Array.from(parameter, (value, place) => value - target.data[place]!);
      wanted = naiveAdamWStep({ ...wanted, gradient: array64([3, 5], slope(wanted.parameter.data)) }, options);
      const gradient = { shape: [3, 5], data: Float32Array.from(slope(found.parameter.data as Float32Array)) };
      found = await adamWStep(current.gpujs, { ...found, gradient }, options);
    }
    expect(plans() - before).toBe(1);
    expectClose('adamWStep', { parameter: found.parameter }, { parameter: wanted.parameter });
  });

  it.each([
    // an expert without rows, rows without an expert
    { experts: [2, 0, -1, 2, 0, 2, 4], count: 5, inner: 3, outer: 4 },
    { experts: [-1, -1], count: 2, inner: 2, outer: 3 },
    { experts: [0], count: 1, inner: 1, outer: 1 },
    { experts: Array.from({ length: 65 }, (_, row) => ((row * 5) % 4) - 1), count: 3, inner: 5, outer: 7 },
  ])('expertMatMul $count experts, $inner to $outer', async ({ experts, count, inner, outer }) => {
    const { ints, doubles } = wholes(experts);
    const inputs = { input: uniform64([experts.length, inner], 1), weight: uniform64([count, inner, outer], 2) };
    const oracle = (x: typeof inputs): { output: Array64 } => naiveExpertMatMul({ ...x, experts: doubles });
    const points = { ...given(inputs), experts: ints };
    expectClose('expertMatMul', await expertMatMul(current.gpujs, points), oracle(inputs));
    const cotangent = uniform64([experts.length, outer], 3);
    const gradients = centralDifferences(oracle, inputs, { output: cotangent }, ['input', 'weight']);
    expectClose('expertMatMulGradient', await expertMatMulGradient(current.gpujs, { ...points, ...given({ cotangent }) }), gradients);
  });

  it('rows without an expert may hold anything', async () => {
    const [experts, doubles] = [Int32Array.of(1, -1, 0), array64([3], [1, -1, 0])];
    const [input, cotangent] = [uniform64([3, 2], 1), uniform64([3, 4], 3)];
    const weight = uniform64([2, 2, 4], 2);
    const clean = given({ input, cotangent });
    const dirty = given({ input, cotangent });
    (dirty.input.data as Float32Array).fill(NaN, 2, 4);
    (dirty.cotangent.data as Float32Array).fill(Infinity, 4, 8);
    const others = { experts, ...given({ weight }) };
    expectClose(
      'expertMatMul',
      await expertMatMul(current.gpujs, { ...dirty, ...others }),
      naiveExpertMatMul({ input, weight, experts: doubles }),
    );
    const [found, wanted] = [
      await expertMatMulGradient(current.gpujs, { ...dirty, ...others }),
      await expertMatMulGradient(current.gpujs, { ...clean, ...others }),
    ];
    expect(list(found.input)).toEqual(list(wanted.input));
    expect(list(found.weight)).toEqual(list(wanted.weight));
  });

  it.each([
    { time: 1, taps: 4, bias: false, state: true, lengths: null, activation: 'none', stateUsed: true },
    { time: 7, taps: 3, bias: true, state: true, lengths: [7, 1], activation: 'silu', stateUsed: true },
    { time: 7, taps: 4, bias: true, state: true, lengths: [0, 5], activation: 'none', stateUsed: true },
    { time: 5, taps: 4, bias: false, state: false, lengths: null, activation: 'silu', stateUsed: false },
    { time: 7, taps: 4, bias: false, state: false, lengths: [3, 2], activation: 'silu', stateUsed: false },
    { time: 3, taps: 1, bias: true, state: false, lengths: null, activation: 'none', stateUsed: false },
    { time: 65, taps: 2, bias: true, state: true, lengths: null, activation: 'silu', stateUsed: false },
  ] as const)('causalConv1dGradient %j', async ({ time, taps, bias, state, lengths, activation, stateUsed }) => {
    const inputs = {
      input: uniform64([2, time, 3], 1, -3, 3),
      weight: uniform64([3, taps], 2),
      bias: bias ? uniform64([3], 3) : undefined,
      state: state ? uniform64([2, taps - 1, 3], 4) : undefined,
    };
    const ends = lengths ? array64([2], lengths) : undefined;
    const oracle = (x: typeof inputs): { output: Array64; state: Array64 } => naiveCausalConv1d({ ...x, lengths: ends }, { activation });
    const cotangents = { output: uniform64([2, time, 3], 5), state: stateUsed ? uniform64([2, taps - 1, 3], 6) : undefined };
    const wanted = centralDifferences(oracle, inputs, cotangents, ['input', 'weight', 'bias', 'state']);
    const points = given({ ...inputs, lengths: ends, cotangent: cotangents.output, stateCotangent: cotangents.state });
    // pads may hold anything
    lengths?.forEach((length, row) => {
      for (const array of [points.input, points.cotangent])
        (array.data as Float32Array).fill(NaN, (row * time + length) * 3, (row + 1) * time * 3);
    });
    const found = await causalConv1dGradient(current.gpujs, points, { activation });
    expectClose('causalConv1dGradient', found, wanted);
    expect(Object.keys(found).toSorted()).toEqual(Object.keys(wanted).toSorted());
    expectClose('causalConv1d', await causalConv1d(current.gpujs, points, { activation }), oracle(inputs));
  });

  it('a convolution of one tap has no state, and no gradient of one', async () => {
    const inputs = {
      input: uniform64([1, 3, 2], 1),
      weight: uniform64([2, 1], 2),
      state: array64([1, 0, 2]),
      cotangent: uniform64([1, 3, 2], 3),
    };
    const { state } = await causalConv1dGradient(current.gpujs, given(inputs));
    expect(state).toEqual({ shape: [1, 0, 2], data: new Float32Array(0) });
  });

  it.each<[string, () => Promise<unknown>]>([
    ['topKRows: k must be a whole number from 1 to 3', () => topKRows(current.gpujs, given({ input: uniform64([2, 3], 1) }), { k: 4 })],
    [
      'topKRowsGradient: cotangent must be of shape [2, 3]',
      () => topKRowsGradient(current.gpujs, given({ indices: array64([2, 3]), cotangent: array64([2, 2]) }), { width: 5 }),
    ],
    [
      "topKRowsGradient: indices' last axis must be a whole number from 1 to 2",
      () => topKRowsGradient(current.gpujs, given({ indices: array64([2, 3]), cotangent: array64([2, 3]) }), { width: 2 }),
    ],
    [
      'scatterAddRows: indices must be below 2 and not negative',
      () => scatterAddRows(current.gpujs, { ...given({ rows: array64([1, 3]) }), indices: Int32Array.of(2) }, { rowCount: 2 }),
    ],
    [
      'scatterAddRows: rowCount must be a whole number of at least 1',
      () => scatterAddRows(current.gpujs, { ...given({ rows: array64([1, 3]) }), indices: Int32Array.of(0) }, { rowCount: 0 }),
    ],
    [
      'gatherRowsGradient: indices must be 2 numbers',
      () => gatherRowsGradient(current.gpujs, { ...given({ cotangent: array64([2, 3]) }), indices: Int32Array.of(0) }, { rowCount: 1 }),
    ],
    [
      'scatterAddRowsGradient: cotangent must be of shape [any, any]',
      () => scatterAddRowsGradient(current.gpujs, { ...given({ cotangent: array64([3]) }), indices: Int32Array.of(0) }),
    ],
    [
      'adamWStep: secondMoment must be of shape [2]',
      () => {
        const [parameter, gradient, firstMoment, secondMoment] = [array64([2]), array64([2]), array64([2]), array64([3])];
        return adamWStep(current.gpujs, given({ parameter, gradient, firstMoment, secondMoment }), { learningRate: 1, step: 1 });
      },
    ],
    [
      'adamWStep: step must be a whole number from 1',
      () => {
        const [parameter, gradient, firstMoment, secondMoment] = [array64([2]), array64([2]), array64([2]), array64([2])];
        return adamWStep(current.gpujs, given({ parameter, gradient, firstMoment, secondMoment }), { learningRate: 1, step: 0 });
      },
    ],
    [
      'expertMatMul: experts must be below 2 and at least -1',
      () => expertMatMul(current.gpujs, { ...given({ input: array64([1, 3]), weight: array64([2, 3, 4]) }), experts: Int32Array.of(-2) }),
    ],
    [
      'expertMatMulGradient: cotangent must be of shape [1, 4]',
      () => {
        const arrays = given({ input: array64([1, 3]), weight: array64([2, 3, 4]), cotangent: array64([1, 3]) });
        return expertMatMulGradient(current.gpujs, { ...arrays, experts: Int32Array.of(1) });
      },
    ],
    [
      'causalConv1dGradient: stateCotangent must be of shape [1, 1, 2]',
      () => {
        const [input, weight, stateCotangent] = [array64([1, 3, 2]), array64([2, 2]), array64([1, 2, 2])];
        return causalConv1dGradient(current.gpujs, given({ input, weight, cotangent: input, stateCotangent }));
      },
    ],
  ])('%s', async (message, run) => {
    await expect(run()).rejects.toThrow(message);
  });
});
