import {
  array64,
  centralDifferences,
  naiveCausalConv1d,
  naiveGatherRows,
  naiveLinearAttention,
  naiveLinearScan,
  naiveRmsNorm,
  naiveRotary,
  naiveSelectiveScan,
  naiveSoftmaxCrossEntropy,
  uniform64,
} from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import { expect, it } from 'vitest';
import { describeModes, expectClose, given } from './describe-modes.ts';
import {
  causalConv1d,
  gatherRows,
  linearAttention,
  linearScan,
  linearScanGradient,
  matmul,
  matmulGradient,
  rmsNorm,
  rmsNormGradient,
  rotary,
  rotaryGradient,
  selectiveScan,
  softmaxAttention,
  softmaxCrossEntropy,
  softmaxCrossEntropyGradient,
} from './index.ts';

function naiveMatmul({ left, right }: { left: Array64; right: Array64 }, flipLeft = false, flipRight = false): { output: Array64 } {
  const [batch] = left.shape as [number];
  const [rows, inner] = (flipLeft ? [left.shape[2], left.shape[1]] : [left.shape[1], left.shape[2]]) as [number, number];
  const columns = right.shape.at(flipRight ? -2 : -1)!;
  const output = array64([batch, rows, columns]);
  for (let b = 0; b < batch; b++)
    for (let m = 0; m < rows; m++)
      for (let n = 0; n < columns; n++)
        for (let k = 0; k < inner; k++) {
          const rightBatch = right.shape.length === 2 ? 0 : b;
          const l = left.data[(b * (flipLeft ? inner : rows) + (flipLeft ? k : m)) * (flipLeft ? rows : inner) + (flipLeft ? m : k)]!;
          const r =
            right.data[
              (rightBatch * (flipRight ? columns : inner) + (flipRight ? n : k)) * (flipRight ? inner : columns) + (flipRight ? k : n)
            ]!;
          output.data[(b * rows + m) * columns + n]! += l * r;
        }
  return { output };
}

describeModes('gpu.js kernels', (current) => {
  it.each([
    [false, false, [2, 3, 5], [2, 5, 4]],
    [true, false, [2, 5, 3], [2, 5, 4]],
    [false, true, [2, 3, 5], [2, 4, 5]],
    [true, true, [2, 5, 3], [2, 4, 5]],
    [false, false, [2, 3, 5], [5, 4]],
    [false, true, [1, 1, 1], [1, 1]],
  ])('matmul, transposed %s and %s, %j x %j', async (transposeLeft, transposeRight, leftShape, rightShape) => {
    const inputs = { left: uniform64(leftShape, 1), right: uniform64(rightShape, 2) };
    const options = { transposeLeft, transposeRight };
    const oracle = (x: typeof inputs): { output: Array64 } => naiveMatmul(x, transposeLeft, transposeRight);
    const wanted = oracle(inputs);
    expectClose('matmul', await matmul(current.gpujs, given(inputs), options), wanted);
    const cotangent = uniform64(wanted.output.shape, 3);
    const gradients = centralDifferences(oracle, inputs, { output: cotangent }, ['left', 'right']);
    expectClose('matmulGradient', await matmulGradient(current.gpujs, given({ ...inputs, cotangent }), options), gradients);
  });

  it.each([
    { weight: true, gate: false, groups: 1, normBeforeGate: true, gateActivation: 'silu' },
    { weight: true, gate: true, groups: 2, normBeforeGate: true, gateActivation: 'silu' },
    { weight: true, gate: true, groups: 1, normBeforeGate: false, gateActivation: 'sigmoid' },
    { weight: false, gate: false, groups: 1, normBeforeGate: true, gateActivation: 'silu' },
  ] as const)('rmsNorm %j', async ({ weight, gate, ...options }) => {
    const inputs = {
      input: uniform64([2, 3, 6], 1),
      weight: weight ? uniform64([6], 2, 0.5, 1.5) : undefined,
      gate: gate ? uniform64([2, 3, 6], 3, -3, 3) : undefined,
    };
    const oracle = (x: typeof inputs): { output: Array64 } => naiveRmsNorm(x, options);
    expectClose('rmsNorm', await rmsNorm(current.gpujs, given(inputs), options), oracle(inputs));
    const cotangent = uniform64([2, 3, 6], 4);
    const gradients = centralDifferences(oracle, inputs, { output: cotangent }, ['input', 'weight', 'gate']);
    expectClose('rmsNormGradient', await rmsNormGradient(current.gpujs, given({ ...inputs, cotangent }), options), gradients);
  });

  it.each([
    { time: 1, state: true, reverse: false },
    { time: 7, state: false, reverse: true },
    { time: 65, state: true, reverse: false },
    { time: 33, state: true, reverse: true },
  ])('linearScan %j', async ({ time, state, reverse }) => {
    const inputs = {
      decay: uniform64([2, time, 3], 1, 0.2, 1),
      input: uniform64([2, time, 3], 2),
      state: state ? uniform64([2, 3], 3) : undefined,
    };
    const oracle = (x: typeof inputs): { hidden: Array64; state: Array64 } => naiveLinearScan(x, { reverse });
    const wanted = oracle(inputs);
    expectClose('linearScan', await linearScan(current.gpujs, given(inputs), { reverse }), wanted);
    const cotangents = { hidden: uniform64([2, time, 3], 4), state: uniform64([2, 3], 5) };
    const gradients = centralDifferences(oracle, inputs, cotangents, ['decay', 'input', 'state']);
    const { hidden } = wanted;
    const points = given({ ...inputs, hidden, cotangent: cotangents.hidden, stateCotangent: cotangents.state });
    expectClose('linearScanGradient', await linearScanGradient(current.gpujs, points, { reverse }), gradients);
  });

  it.each([
    { interleaved: false, angleBatch: 1, pairs: 2 },
    { interleaved: true, angleBatch: 2, pairs: 3 },
  ])('rotary %j', async ({ interleaved, angleBatch, pairs }) => {
    const angles = uniform64([angleBatch, 5, pairs], 1, -3, 3);
    const turned = (by: (angle: number) => number): Array64 => ({
      shape: angles.shape,
      data: angles.data.map((angle) => Math.fround(by(angle))),
    });
    const inputs = { input: uniform64([2, 5, 3, 6], 2), cos: turned(Math.cos), sin: turned(Math.sin) };
    const oracle = (x: typeof inputs): { output: Array64 } => naiveRotary(x, { interleaved });
    expectClose('rotary', await rotary(current.gpujs, given(inputs), { interleaved }), oracle(inputs));
    const cotangent = uniform64([2, 5, 3, 6], 3);
    const gradients = centralDifferences(oracle, inputs, { output: cotangent }, ['input']);
    const { cos, sin } = inputs;
    expectClose('rotaryGradient', await rotaryGradient(current.gpujs, given({ cos, sin, cotangent }), { interleaved }), gradients);
  });

  it.each([
    { time: 1, taps: 4, bias: false, state: true, lengths: null, activation: 'none' },
    { time: 7, taps: 3, bias: true, state: true, lengths: [7, 1], activation: 'silu' },
    { time: 5, taps: 4, bias: false, state: false, lengths: null, activation: 'silu' },
    { time: 3, taps: 1, bias: true, state: false, lengths: null, activation: 'none' },
  ] as const)('causalConv1d %j', async ({ time, taps, bias, state, lengths, activation }) => {
    const inputs = {
      input: uniform64([2, time, 3], 1, -3, 3),
      weight: uniform64([3, taps], 2),
      bias: bias ? uniform64([3], 3) : undefined,
      state: state ? uniform64([2, taps - 1, 3], 4) : undefined,
      lengths: lengths ? array64([2], lengths) : undefined,
    };
    expectClose(
      'causalConv1d',
      await causalConv1d(current.gpujs, given(inputs), { activation }),
      naiveCausalConv1d(inputs, { activation }),
    );
  });

  it.each([
    { time: 1, state: true, skip: false },
    { time: 7, state: false, skip: true },
    { time: 65, state: true, skip: true },
  ])('selectiveScan %j', async ({ time, state, skip }) => {
    const inputs = {
      input: uniform64([2, time, 3], 1),
      delta: uniform64([2, time, 3], 2, 0, 2),
      transition: uniform64([3, 4], 3, -2, -0.1),
      inputMatrix: uniform64([2, time, 4], 4),
      outputMatrix: uniform64([2, time, 4], 5),
      skip: skip ? uniform64([3], 6) : undefined,
      state: state ? uniform64([2, 3, 4], 7) : undefined,
    };
    expectClose('selectiveScan', await selectiveScan(current.gpujs, given(inputs)), naiveSelectiveScan(inputs));
  });

  it.each([
    { labelSmoothing: 0, zLoss: 0, softCap: null, spread: 5 },
    { labelSmoothing: 0.1, zLoss: 0.01, softCap: 3, spread: 5 },
    { labelSmoothing: 0, zLoss: 0, softCap: null, spread: 1e4 },
  ])('softmaxCrossEntropy %j', async ({ spread, ...options }) => {
    const labels = Int32Array.of(4, -1, 0, 6, 2);
    const logits = uniform64([5, 7], 1, -spread, spread);
    const oracle = (x: { logits: Array64 }): { loss: Array64; logSumExp: Array64 } =>
      naiveSoftmaxCrossEntropy({ ...x, labels: array64([5], [...labels]) }, options);
    const wanted = oracle({ logits });
    expectClose('softmaxCrossEntropy', await softmaxCrossEntropy(current.gpujs, { ...given({ logits }), labels }, options), wanted);
    // central differences of steps of this size are of no use where the loss is of the size of the logits
    if (spread > 100) return;
    const [cotangent, logSumExpCotangent] = [uniform64([5], 2), uniform64([5], 3)];
    for (const ofLogSumExp of [undefined, logSumExpCotangent]) {
      const cotangents = { loss: cotangent, ...(ofLogSumExp && { logSumExp: ofLogSumExp }) };
      const gradients = centralDifferences(oracle, { logits }, cotangents, ['logits']);
      const points = given({ logits, logSumExp: wanted.logSumExp, cotangent, logSumExpCotangent: ofLogSumExp });
      expectClose(
        'softmaxCrossEntropyGradient',
        await softmaxCrossEntropyGradient(current.gpujs, { ...points, labels }, options),
        gradients,
      );
    }
  });

  it('gatherRows', async () => {
    const indices = Int32Array.of(4, 0, 4, 2, 1, 3, 3);
    const table = uniform64([5, 3], 1);
    const wanted = naiveGatherRows({ table, indices: array64([7], [...indices]) });
    expectClose('gatherRows', await gatherRows(current.gpujs, { ...given({ table }), indices }), wanted);
  });

  it.each([
    { updateRule: 'linear', time: 7, decay: null, state: false, low: 0 },
    { updateRule: 'gated', time: 1, decay: [], state: true, low: -3 },
    { updateRule: 'gated', time: 37, decay: [3], state: true, low: -3 },
    { updateRule: 'delta', time: 21, decay: null, state: true, low: 0 },
    { updateRule: 'gated_delta', time: 37, decay: [], state: true, low: -3 },
    { updateRule: 'gated_delta', time: 7, decay: [3], state: false, low: -100 },
  ] as const)('linearAttention %j', async ({ updateRule, time, decay, state, low }) => {
    const inputs = {
      query: uniform64([2, time, 4, 3], 1),
      key: uniform64([2, time, 2, 3], 2, -0.7, 0.7),
      value: uniform64([2, time, 2, 5], 3),
      ...(decay && { logDecay: uniform64([2, time, 2, ...decay], 4, low, 0) }),
      ...(updateRule.endsWith('delta') && { beta: uniform64([2, time, 2], 5, 0, 1) }),
      ...(state && { state: uniform64([2, 2, 3, 5], 6) }),
    };
    const options = { updateRule, chunkSize: 8 };
    expectClose(
      'linearAttention',
      await linearAttention(current.gpujs, given(inputs), options),
      naiveLinearAttention(inputs, { updateRule }),
    );
  });

  it('NaN goes through, to the rows that see it', async () => {
    const inputs = { query: uniform64([1, 5, 1, 2], 1), key: uniform64([1, 5, 1, 2], 2), value: uniform64([1, 5, 1, 2], 3) };
    inputs.key.data[7] = NaN;
    const { output } = await softmaxAttention(current.gpujs, given(inputs), { causal: true, blockSize: 2 });
    expect([...(output.data as Float32Array)].map((number) => Number.isNaN(number))).toEqual(
      [0, 0, 0, 1, 1].flatMap((nan) => [nan > 0, nan > 0]),
    );
    const logits = uniform64([2, 3], 1);
    logits.data[1] = NaN;
    const { loss } = await softmaxCrossEntropy(current.gpujs, { ...given({ logits }), labels: Int32Array.of(0, 0) });
    expect([...(loss.data as Float32Array)].map((number) => Number.isNaN(number))).toEqual([true, false]);
  });
});
