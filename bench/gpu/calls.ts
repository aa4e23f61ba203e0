import type { LinearAttentionRule } from '@seqloom/core';
import type { Outputs } from '../measure/candidate.ts';
import * as draw from '../measure/inputs.ts';
import { bytesOf, doubles } from '../measure/inputs.ts';
import { equals } from '../measure/parity.ts';
import type { HostArray } from '../measure/tfjs.ts';
import { oneHeadChecks } from '../suites/linear-attention.ts';
import { lastRowChecks } from '../suites/softmax-attention.ts';
import { contractOf, MATMUL, wholeInputs } from './contracts.ts';

/** How large the calls are: to see that everything works, for an emulated GPU, and for a real one. */
export type Size = 'quick' | 'emulated' | 'real';

/** A call of a kernel contract to be timed. */
export interface GpuCall {
  readonly kernel: string;
  /** the kernel with what its options are, e.g. `LinearAttention gated` */
  readonly title: string;
  /** extents in words */
  readonly shape: string;
  /** numbers are drawn at every look at an array's `data` */
  readonly inputs: Inputs;
  readonly options: Readonly<Record<string, unknown>>;
  /** operations that the method needs */
  readonly flops?: number;
  /** bytes of inputs and outputs */
  readonly bytes: number;
  /** checks by the oracle, where all of its outputs would take too long */
  readonly checks?: (inputs: Inputs) => readonly ((outputs: Outputs) => string | null)[];
  /** whether what it holds is bounded by a line in the length: no weight for every pair of a query and a key */
  readonly linearMemory?: boolean;
  /** inputs that have a gradient, and the output that the loss reads */
  readonly gradient: {
    readonly differentiate: readonly string[];
    readonly output: { readonly name: string; readonly shape: readonly number[] };
  };
}

type Inputs = Readonly<Record<string, HostArray>>;

/** An array that holds no memory: all calls are described before the first one runs. */
function later(shape: readonly number[], numbers: () => Float32Array<ArrayBuffer>): HostArray {
  return {
    shape,
    get data() {
      return numbers();
    },
  };
}

function uniform(shape: readonly number[], seed: number, low = -1, high = 1): HostArray {
  return later(shape, () => draw.uniform(shape, seed, low, high).data);
}

const pick = <T>(size: Size, [quick, emulated, real]: readonly [quick: T, emulated: T, real: T]): T => ({ quick, emulated, real })[size];

function whole(shape: readonly number[], seed: number, limit: number): HostArray {
  return later(shape, () => draw.uniform(shape, seed, 0, limit).data.map((value) => Math.floor(value)));
}

type Extra = Partial<Pick<GpuCall, 'title' | 'flops' | 'checks' | 'linearMemory'>>;

function call(
  kernel: string,
  shape: Readonly<Record<string, number>>,
  inputs: Inputs,
  outputs: Readonly<Record<string, readonly number[]>>,
  options: Readonly<Record<string, unknown>> = {},
  extra: Extra = {},
): GpuCall {
  const bytes = bytesOf(Object.values(inputs)) + bytesOf(Object.values(outputs).map((extents) => ({ shape: extents })));
  const words = Object.entries(shape).map(([name, extent]) => `${name} = ${extent}`);
  const differentiate = Object.keys(inputs).filter((name) => !wholeInputs.includes(name));
  const [output, extents] = Object.entries(outputs)[0]!;
  const gradient = { differentiate, output: { name: output, shape: extents } };
  return { kernel, title: kernel, shape: words.join(', '), inputs, options, bytes, gradient, ...extra };
}

function product(batch: number, [m, n, k]: readonly [number, number, number]): GpuCall {
  const inputs = { left: uniform([batch, m, k], 1), right: uniform([batch, k, n], 2) };
  const title = batch === 1 ? MATMUL : `${MATMUL} in batches`;
  const shape = { ...(batch > 1 && { B: batch }), M: m, N: n, K: k };
  // the outermost rows of the last matrix
  const rows = [batch * m - m, batch * m - 1];
  const checks = (given: Inputs) => {
    const right = { shape: [1, k, n], data: given['right']!.data.slice((batch - 1) * k * n) };
    const { data } = given['left']!;
    const left = { shape: [1, 2, k], data: Float32Array.from(rows.flatMap((row) => [...data.subarray(row * k, (row + 1) * k)])) };
    const wanted = contractOf(MATMUL).oracle({ left: doubles(left), right: doubles(right) }, {})['output']!;
    const part = (values: ArrayLike<number>) =>
      Array.from({ length: 2 * n }, (_, place) => values[rows[Math.floor(place / n)]! * n + (place % n)]!);
    return [equals('output', wanted.data, { part })];
  };
  return call(MATMUL, shape, inputs, { output: [batch, m, n] }, {}, { title, flops: 2 * batch * m * n * k, checks });
}

type Extents = readonly [T: number, H: number, D: number];

function linear(updateRule: LinearAttentionRule, [T, H, D]: Extents): GpuCall {
  const delta = updateRule.endsWith('delta');
  const gated = updateRule.startsWith('gated');
  const inputs = {
    query: uniform([1, T, H, D], 1),
    key: later([1, T, H, D], () => draw.unitRows([1, T, H, D], 2).data),
    value: uniform([1, T, H, D], 3),
    ...(gated && { logDecay: uniform([1, T, H], 4, -0.2, 0) }),
    ...(delta && { beta: uniform([1, T, H], 5, 0, 1) }),
  };
  const extra = {
    title: `LinearAttention ${updateRule}`,
    flops: T * H * D * D * (4 + (delta ? 2 : 0) + (gated ? 1 : 0)),
    checks: (given: Inputs) => oneHeadChecks(given, updateRule),
  };
  const outputs = { output: [1, T, H, D], state: [1, H, D, D] };
  return call('LinearAttention', { T, H, D }, inputs, outputs, { updateRule }, extra);
}

function attention([T, H, D]: Extents): GpuCall {
  const inputs = { query: uniform([1, T, H, D], 1, -2, 2), key: uniform([1, T, H, D], 2, -2, 2), value: uniform([1, T, H, D], 3) };
  const outputs = { output: [1, T, H, D], logSumExp: [1, T, H] };
  return call(
    'SoftmaxAttention',
    { T, H, D },
    inputs,
    outputs,
    { causal: true },
    {
      title: 'SoftmaxAttention causal',
      flops: 2 * T * (T + 1) * H * D,
      checks: (given) => lastRowChecks(given as never),
      linearMemory: true,
    },
  );
}

function blocks(size: Size): GpuCall {
  const [T, H, D, width, count] = pick(size, [
    [32, 2, 8, 8, 2],
    [256, 2, 32, 32, 2],
    [4096, 8, 64, 64, 8],
  ] as const);
  // the first blocks and the query's own
  const rows = T / width;
  const read = Float32Array.from({ length: H * rows * count }, (_, place) => {
    const [row, slot] = [Math.floor(place / count) % rows, place % count];
    const block = slot === count - 1 ? row : slot;
    return slot < count - 1 && block >= row ? -1 : block;
  });
  const inputs = {
    query: uniform([1, T, H, D], 1, -2, 2),
    key: uniform([1, T, H, D], 2, -2, 2),
    value: uniform([1, T, H, D], 3),
    blocks: { shape: [1, H, rows, count], data: read },
  };
  const outputs = { output: [1, T, H, D], logSumExp: [1, T, H] };
  const options = { queryBlock: width, keyBlock: width, causal: true };
  return call('BlockAttention', { T, H, D, block: width, read: count }, inputs, outputs, options, { linearMemory: true });
}

function scans(size: Size): GpuCall[] {
  const [T, C, N] = pick(size, [
    [33, 8, 4],
    [256, 64, 8],
    [4096, 1024, 16],
  ] as const);
  const row = [1, T, C];
  const part = (seed: number): HostArray => uniform(row, seed, -0.7, 0.7);
  return [
    call('LinearScan', { T, C }, { decay: uniform(row, 1, 0.5, 1), input: uniform(row, 2) }, { hidden: row, state: [1, C] }),
    call(
      'ComplexLinearScan',
      { T, C },
      { decayReal: part(1), decayImaginary: part(2), inputReal: part(3), inputImaginary: part(4) },
      { hiddenReal: row, hiddenImaginary: row, stateReal: [1, C], stateImaginary: [1, C] },
    ),
    call(
      'SelectiveScan',
      { T, C, N },
      {
        input: uniform(row, 1),
        delta: uniform(row, 2, 0.01, 0.2),
        transition: uniform([C, N], 3, -4, -0.1),
        inputMatrix: uniform([1, T, N], 4),
        outputMatrix: uniform([1, T, N], 5),
        skip: uniform([C], 6),
      },
      { output: row, state: [1, C, N] },
    ),
  ];
}

function rowwise(size: Size): GpuCall[] {
  const [T, C] = pick(size, [
    [33, 8],
    [256, 128],
    [4096, 2048],
  ] as const);
  const row = [1, T, C];
  const [H, D] = [pick(size, [1, 4, 16]), C / pick(size, [1, 4, 16])];
  const V = pick(size, [17, 1024, 16_384]);
  const step = (name: string, seed: number, low: number, high: number) => ({ [name]: uniform([4 * T, C], seed, low, high) });
  const state = {
    ...step('parameter', 1, -1, 1),
    ...step('gradient', 2, -1, 1),
    ...step('firstMoment', 3, -1, 1),
    ...step('secondMoment', 4, 0, 1),
  };
  return [
    call('RmsNorm', { T, D: C }, { input: uniform(row, 1), weight: uniform([C], 2), gate: uniform(row, 3) }, { output: row }),
    call(
      'CausalConv1d',
      { T, C, K: 4 },
      { input: uniform(row, 1), weight: uniform([C, 4], 2), bias: uniform([C], 3) },
      { output: row, state: [1, 3, C] },
      {
        activation: 'silu',
      },
    ),
    call(
      'Rotary',
      { T, H, D },
      { input: uniform([1, T, H, D], 1), cos: uniform([1, T, D / 2], 2), sin: uniform([1, T, D / 2], 3) },
      { output: [1, T, H, D] },
    ),
    call(
      'SoftmaxCrossEntropy',
      { N: T, V },
      { logits: uniform([T, V], 1, -4, 4), labels: whole([T], 2, V) },
      { loss: [T], logSumExp: [T] },
    ),
    call(
      'AdamWStep',
      { numbers: 4 * T * C },
      state,
      { parameter: [4 * T, C], firstMoment: [4 * T, C], secondMoment: [4 * T, C] },
      { learningRate: 1e-3, step: 10, weightDecay: 0.1 },
    ),
  ];
}

function tables(size: Size): GpuCall[] {
  const [V, N, D] = pick(size, [
    [17, 33, 8],
    [512, 256, 64],
    [32_768, 8192, 1024],
  ] as const);
  const indices = whole([N], 2, V);
  const [rows, width, k] = pick(size, [
    [3, 20, 4],
    [32, 256, 8],
    [1024, 8192, 32],
  ] as const);
  const [tokens, experts, inner] = pick(size, [
    [17, 3, 8],
    [128, 4, 64],
    [4096, 8, 512],
  ] as const);
  return [
    call('GatherRows', { V, N, D }, { table: uniform([V, D], 1), indices }, { rows: [N, D] }),
    call('ScatterAddRows', { V, N, D }, { rows: uniform([N, D], 1), indices }, { table: [V, D] }, { rowCount: V }),
    call('TopKRows', { rows, N: width, k }, { input: uniform([rows, width], 1) }, { values: [rows, k], indices: [rows, k] }, { k }),
    call(
      'ExpertMatMul',
      { N: tokens, experts, D: inner },
      { input: uniform([tokens, inner], 1), experts: whole([tokens], 2, experts), weight: uniform([experts, inner, inner], 3) },
      { output: [tokens, inner] },
      {},
      { flops: 2 * tokens * inner * inner },
    ),
  ];
}

/** One call or more of every contract. */
export function gpuCalls(size: Size): GpuCall[] {
  const rules: LinearAttentionRule[] = size === 'real' ? ['linear', 'gated', 'delta', 'gated_delta'] : ['gated', 'gated_delta'];
  const wide = pick(size, [33, 256, 2048]);
  const low = pick(size, [9, 64, 256]);
  const linearExtents = pick<Extents>(size, [
    [33, 2, 8],
    [256, 4, 32],
    [16_384, 16, 128],
  ]);
  const attentionExtents = pick<Extents>(size, [
    [33, 2, 8],
    [512, 4, 32],
    [4096, 16, 64],
  ]);
  return [
    product(1, [wide, wide, wide]),
    product(pick(size, [2, 8, 64]), [low, low, low]),
    ...rules.map((rule) => linear(rule, linearExtents)),
    attention(attentionExtents),
    blocks(size),
    ...scans(size),
    ...rowwise(size),
    ...tables(size),
  ];
}

/** Calls whose gradients are timed: those that training spends its time in. */
export function gradientCalls(size: Size): GpuCall[] {
  const extents = pick<Extents>(size, [
    [33, 2, 8],
    [128, 2, 32],
    [2048, 8, 64],
  ]);
  const attentions = [linear('gated', extents), linear('gated_delta', extents), attention(extents)];
  if (size === 'quick') return attentions.slice(1, 2);
  const others = ['SelectiveScan', 'RmsNorm', 'CausalConv1d', 'SoftmaxCrossEntropy'];
  return [...attentions, ...gpuCalls(size).filter(({ kernel }) => others.includes(kernel))];
}
