import {
  adamWStep,
  blockAttention,
  causalConv1d,
  complexLinearScan,
  expertMatMul,
  gatherRows,
  linearScan,
  rmsNorm,
  rotary,
  scatterAddRows,
  selectiveScan,
  softmaxCrossEntropy,
  topK,
} from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import { array64, uniform64 } from './oracle/array64.ts';
import type { Array64 } from './oracle/array64.ts';
import * as oracles from './oracle/index.ts';

/** A small call of one kernel contract with its specification, for suites that go over all contracts. */
export interface KernelCase {
  /** name of the contract's kernel */
  readonly kernel: string;
  readonly inputs: Readonly<Record<string, Array64>>;
  readonly integers: readonly string[];
  /** settings of the op */
  readonly options: Readonly<Record<string, unknown>>;
  /** the op of the contract, with all outputs by name */
  readonly run: (inputs: Record<string, tf.Tensor>) => Readonly<Record<string, tf.Tensor>>;
  readonly oracle: (inputs: Record<string, Array64>) => Readonly<Record<string, Array64>>;
  /** inputs with a gradient */
  readonly differentiate: readonly string[];
  /** outputs that the loss reads */
  readonly lossTerms: readonly string[];
}

type Op = (inputs: never, options: never) => Readonly<Record<string, tf.Tensor>>;

const OPS: Readonly<Record<string, Op>> = {
  AdamWStep: adamWStep,
  BlockAttention: blockAttention,
  CausalConv1d: causalConv1d,
  ComplexLinearScan: complexLinearScan,
  ExpertMatMul: (inputs) => ({ output: expertMatMul(inputs) }),
  LinearScan: linearScan,
  RmsNorm: (inputs, options) => ({ output: rmsNorm(inputs, options) }),
  Rotary: (inputs, options) => ({ output: rotary(inputs, options) }),
  GatherRows: (inputs) => ({ rows: gatherRows(inputs) }),
  ScatterAddRows: (inputs, options) => ({ table: scatterAddRows(inputs, options) }),
  SelectiveScan: selectiveScan,
  SoftmaxCrossEntropy: softmaxCrossEntropy,
  TopKRows: topK,
};

function kernelCase(
  kernel: string,
  oracle: unknown,
  lossTerms: readonly string[],
  inputs: Readonly<Record<string, Array64>>,
  options: Readonly<Record<string, unknown>> = {},
  still: readonly string[] = [],
): KernelCase {
  const integers = ['indices', 'labels', 'lengths', 'blocks', 'experts'].filter((name) => name in inputs);
  const specification = oracle as (inputs: Record<string, Array64>, options: unknown) => Readonly<Record<string, Array64>>;
  const run = (given: Record<string, tf.Tensor>) => OPS[kernel]!(given as never, options as never);
  const differentiate = Object.keys(inputs).filter((name) => !integers.includes(name) && !still.includes(name));
  return { kernel, inputs, integers, options, run, oracle: (given) => specification(given, options), differentiate, lossTerms };
}

/** Small calls of the contracts beside linear and softmax attention: every output and option kind at least once. */
export function kernelCases(): KernelCase[] {
  const shape = [2, 7, 6];
  const row = uniform64(shape, 1, -2, 2);
  const indices = array64([4], [2, 0, 2, 3]);
  const scan = { decay: uniform64(shape, 4), input: row, state: uniform64([2, 6], 5) };
  const part = (name: string, first: number) => ({
    [`${name}Real`]: uniform64(name === 'state' ? [2, 6] : shape, first, -0.7, 0.7),
    [`${name}Imaginary`]: uniform64(name === 'state' ? [2, 6] : shape, first + 1, -0.7, 0.7),
  });
  const conv = { input: row, weight: uniform64([6, 4], 2), bias: uniform64([6], 3), state: uniform64([2, 3, 6], 4) };
  const angles = { cos: uniform64([1, 7, 2], 2), sin: uniform64([1, 7, 2], 3) };
  const norm = { input: row, weight: uniform64([6], 2, 0.5, 1.5), gate: uniform64(shape, 3, -3, 3) };
  const loss = { logits: uniform64([4, 9], 1, -3, 3), labels: array64([4], [8, -1, 0, 3]) };
  const step = (name: string, seed: number, low: number) => ({ [name]: uniform64([3, 5], seed, low, 1) });
  const adam = { ...step('parameter', 1, -1), ...step('gradient', 2, -1), ...step('firstMoment', 3, -1), ...step('secondMoment', 4, 0) };
  return [
    kernelCase('CausalConv1d', oracles.naiveCausalConv1d, ['output', 'state'], conv, { activation: 'silu' }),
    kernelCase(
      'CausalConv1d',
      oracles.naiveCausalConv1d,
      ['output', 'state'],
      { ...conv, lengths: array64([2], [5, 1]) },
      { activation: 'none' },
    ),
    kernelCase('RmsNorm', oracles.naiveRmsNorm, ['output'], norm),
    kernelCase('RmsNorm', oracles.naiveRmsNorm, ['output'], norm, { normBeforeGate: false, gateActivation: 'sigmoid', groups: 2 }),
    kernelCase('Rotary', oracles.naiveRotary, ['output'], { input: uniform64([2, 7, 3, 6], 1), ...angles }, {}, ['cos', 'sin']),
    kernelCase('Rotary', oracles.naiveRotary, ['output'], { input: uniform64([2, 7, 3, 4], 1), ...angles }, { interleaved: true }, [
      'cos',
      'sin',
    ]),
    kernelCase('LinearScan', oracles.naiveLinearScan, ['hidden', 'state'], scan),
    kernelCase('LinearScan', oracles.naiveLinearScan, ['hidden', 'state'], scan, { reverse: true }),
    kernelCase('ComplexLinearScan', oracles.naiveComplexLinearScan, ['hiddenReal', 'hiddenImaginary', 'stateReal', 'stateImaginary'], {
      ...part('decay', 1),
      ...part('input', 3),
      ...part('state', 5),
    }),
    kernelCase('SelectiveScan', oracles.naiveSelectiveScan, ['output', 'state'], {
      input: row,
      delta: uniform64(shape, 2, 0.01, 1),
      transition: uniform64([6, 3], 3, -3, -0.1),
      inputMatrix: uniform64([2, 7, 3], 4),
      outputMatrix: uniform64([2, 7, 3], 5),
      skip: uniform64([6], 6),
      state: uniform64([2, 6, 3], 7),
    }),
    kernelCase('SoftmaxCrossEntropy', oracles.naiveSoftmaxCrossEntropy, ['loss', 'logSumExp'], loss),
    kernelCase('SoftmaxCrossEntropy', oracles.naiveSoftmaxCrossEntropy, ['loss', 'logSumExp'], loss, {
      labelSmoothing: 0.1,
      zLoss: 0.01,
      softCap: 5,
    }),
    kernelCase('GatherRows', oracles.naiveGatherRows, ['rows'], { table: uniform64([5, 3], 1), indices }),
    kernelCase('ScatterAddRows', oracles.naiveScatterAddRows, ['table'], { rows: uniform64([4, 3], 1), indices }, { rowCount: 5 }),
    kernelCase('ExpertMatMul', oracles.naiveExpertMatMul, ['output'], {
      input: uniform64([7, 3], 1),
      experts: array64([7], [2, 0, -1, 2, 0, 2, 3]),
      weight: uniform64([4, 3, 5], 2),
    }),
    kernelCase('ExpertMatMul', oracles.naiveExpertMatMul, ['output'], {
      input: uniform64([3, 4], 1),
      experts: array64([3], [4, -1, 4]),
      weight: uniform64([5, 4, 2], 2),
    }),
    kernelCase('TopKRows', oracles.naiveTopK, ['values'], { input: uniform64([3, 20], 1) }, { k: 5 }),
    // ties: each value comes up several times
    kernelCase(
      'TopKRows',
      oracles.naiveTopK,
      ['values'],
      {
        input: array64(
          [2, 40],
          Array.from({ length: 80 }, (_, place) => place % 3),
        ),
      },
      { k: 17 },
      ['input'],
    ),
    kernelCase(
      'AdamWStep',
      oracles.naiveAdamWStep,
      [],
      adam,
      { learningRate: 0.1, step: 3, weightDecay: 0.1, gradientScale: 0.5 },
      Object.keys(adam),
    ),
    kernelCase(
      'BlockAttention',
      oracles.naiveBlockAttention,
      ['output', 'logSumExp'],
      {
        query: uniform64([2, 7, 4, 3], 1, -2, 2),
        key: uniform64([2, 7, 2, 3], 2, -2, 2),
        value: uniform64([2, 7, 2, 2], 3),
        blocks: array64(
          [2, 2, 4, 2],
          Array.from({ length: 32 }, (_, place) => (place % 2 === 0 ? 0 : place % 3 === 0 ? -1 : 1 + (place % 2))),
        ),
      },
      { queryBlock: 2, keyBlock: 3, causal: true },
    ),
  ];
}
