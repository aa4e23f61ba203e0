import * as tf from '@tensorflow/tfjs-core';
import {
  adamWStep,
  blockAttention,
  causalConv1d,
  complexLinearScan,
  expertMatMul,
  gatherRows,
  linearAttentionUpdate,
  linearScan,
  rmsNorm,
  rotary,
  scatterAddRows,
  selectiveScan,
  softmaxAttention,
  softmaxCrossEntropy,
  topK,
} from '@seqloom/core';
import * as gpujs from '@seqloom/kernels-gpu/gpujs';
import type { Gpujs, GpujsArray } from '@seqloom/kernels-gpu/gpujs';
import * as oracles from '../../packages/testing/src/oracle/index.ts';
import type { Array64 } from '../../packages/testing/src/oracle/index.ts';

/** The matrix product: no contract of core's, but the kernel that kernels-gpu puts in the place of tfjs's. */
export const MATMUL = 'MatMul';

type Options = Readonly<Record<string, unknown>>;
type Tensors = Readonly<Record<string, tf.Tensor>>;
type Arrays = Readonly<Record<string, Array64>>;
type AnyFunction = (...values: never[]) => unknown;

/** What gpu.js kernels are given: arrays, and whole numbers as Int32Array. */
export type GpujsInputs = Readonly<Record<string, GpujsArray | Int32Array>>;
/** A kernel of the gpu.js writing. */
export type GpujsKernel = (on: Gpujs, inputs: GpujsInputs, options: Options) => Promise<Readonly<Record<string, GpujsArray>>>;

/** One kernel contract in its writings. */
export interface Contract {
  readonly kernel: string;
  /** on tfjs: the kernels of the backend in use */
  run(inputs: Tensors, options: Options): Tensors;
  /** in double precision */
  oracle(inputs: Arrays, options: Options): Arrays;
  /** in gpu.js; undefined where that writing has none */
  readonly gpujs: GpujsKernel | undefined;
  readonly gpujsGradient: GpujsKernel | undefined;
}

const typed = (run: AnyFunction): Contract['run'] => run as Contract['run'];
const specified = (oracle: AnyFunction): Contract['oracle'] => oracle as Contract['oracle'];

/** The product of [batch, m, k] and [batch, k, n] in double precision. */
function naiveProduct({ left, right }: Arrays): Arrays {
  const [batch, m, k] = left!.shape as [number, number, number];
  const n = right!.shape[2]!;
  const data = new Float64Array(batch * m * n);
  for (let row = 0; row < batch * m; row++) {
    const matrix = Math.floor(row / m) * k * n;
    for (let i = 0; i < k; i++) {
      const factor = left!.data[row * k + i]!;
      for (let column = 0; column < n; column++) data[row * n + column]! += factor * right!.data[matrix + i * n + column]!;
    }
  }
  return { output: { shape: [batch, m, n], data } };
}

/** Ops and specifications by contract; a new contract is a line here, and its gpu.js kernel is found by its name. */
const written: Readonly<Record<string, readonly [run: Contract['run'], oracle: Contract['oracle'], gpujsName?: string]>> = {
  [MATMUL]: [({ left, right }) => ({ output: tf.matMul(left!, right!) }), naiveProduct, 'matmul'],
  LinearAttention: [typed(linearAttentionUpdate), specified(oracles.naiveLinearAttention)],
  SoftmaxAttention: [typed(softmaxAttention), specified(oracles.naiveSoftmaxAttention)],
  BlockAttention: [typed(blockAttention), specified(oracles.naiveBlockAttention)],
  LinearScan: [typed(linearScan), specified(oracles.naiveLinearScan)],
  ComplexLinearScan: [typed(complexLinearScan), specified(oracles.naiveComplexLinearScan)],
  SelectiveScan: [typed(selectiveScan), specified(oracles.naiveSelectiveScan)],
  RmsNorm: [(inputs, options) => ({ output: rmsNorm(inputs as never, options) }), specified(oracles.naiveRmsNorm)],
  CausalConv1d: [typed(causalConv1d), specified(oracles.naiveCausalConv1d)],
  Rotary: [(inputs, options) => ({ output: rotary(inputs as never, options) }), specified(oracles.naiveRotary)],
  SoftmaxCrossEntropy: [typed(softmaxCrossEntropy), specified(oracles.naiveSoftmaxCrossEntropy)],
  GatherRows: [(inputs) => ({ rows: gatherRows(inputs as never) }), specified(oracles.naiveGatherRows)],
  ScatterAddRows: [
    (inputs, options) => ({ table: scatterAddRows(inputs as never, options as never) }),
    specified(oracles.naiveScatterAddRows),
  ],
  TopKRows: [typed(topK), specified(oracles.naiveTopK)],
  ExpertMatMul: [(inputs) => ({ output: expertMatMul(inputs as never) }), specified(oracles.naiveExpertMatMul)],
  AdamWStep: [typed(adamWStep), specified(oracles.naiveAdamWStep)],
};

function gpujsKernel(name: string): GpujsKernel | undefined {
  return (gpujs as unknown as Record<string, GpujsKernel | undefined>)[name];
}

/** All contracts. */
export const contracts: readonly Contract[] = Object.entries(written).map(([kernel, [run, oracle, given]]) => {
  const name = given ?? kernel[0]!.toLowerCase() + kernel.slice(1);
  return { kernel, run, oracle, gpujs: gpujsKernel(name), gpujsGradient: gpujsKernel(`${name}Gradient`) };
});

/** The contract of a kernel. */
export function contractOf(kernel: string): Contract {
  return contracts.find((each) => each.kernel === kernel)!;
}

/** Names of inputs that are whole numbers. */
export const wholeInputs: readonly string[] = ['indices', 'labels', 'lengths', 'blocks', 'experts'];
/** Those that the gpu.js writing takes as Int32Array. */
const asInt32: readonly string[] = ['indices', 'labels', 'blocks', 'experts'];

/** A whole or real input as a tensor. */
export function tensorOf(
  name: string,
  { shape, data }: { readonly shape: readonly number[]; readonly data: ArrayLike<number> },
): tf.Tensor {
  return wholeInputs.includes(name)
    ? tf.tensor(Int32Array.from(data), [...shape], 'int32')
    : tf.tensor(Float32Array.from(data), [...shape], 'float32');
}

/** Inputs as the gpu.js writing takes them, on the host. */
export function gpujsInputs(
  inputs: Readonly<Record<string, { readonly shape: readonly number[]; readonly data: ArrayLike<number> }>>,
): Record<string, GpujsArray | Int32Array> {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, { shape, data }]) => [
      name,
      asInt32.includes(name) ? Int32Array.from(data) : { shape, data: Float32Array.from(data) },
    ]),
  );
}

/** Name under which the gradient of an output goes into the gpu.js writing; that of the first one is plainly `cotangent`. */
function cotangentName(output: string, first: boolean): string {
  const [, part, half] = /^(hidden|state)(Real|Imaginary)$/.exec(output) ?? [];
  if (part) return `${part === 'hidden' ? 'cotangent' : 'stateCotangent'}${half}`;
  return first ? 'cotangent' : `${output}Cotangent`;
}

/**
 * Runs a gradient of the gpu.js writing: it is given inputs, what the forward gave, and the gradients of the outputs, of which it takes what
 * it knows.
 *
 * @returns gradients by input name
 */
export function runGpujsGradient(
  on: Gpujs,
  gradient: GpujsKernel,
  given: {
    readonly inputs: GpujsInputs;
    readonly outputs: Readonly<Record<string, GpujsArray>>;
    readonly cotangents: Readonly<Record<string, GpujsArray>>;
    readonly options: Options;
  },
): Promise<Readonly<Record<string, GpujsArray>>> {
  const { inputs, outputs, cotangents, options } = given;
  const named = Object.entries(cotangents).map(([name, array], index) => [cotangentName(name, index === 0), array]);
  const shapeOf = (name: string): readonly number[] | undefined => (inputs[name] as GpujsArray | undefined)?.shape;
  // extents that a gradient cannot see in what it is given
  const extents = { rowCount: shapeOf('table')?.[0], width: shapeOf('input')?.at(-1) };
  const known = Object.fromEntries(Object.entries(extents).filter(([, extent]) => extent !== undefined));
  // a state that the forward left is not the one that it began with
  const saved = Object.fromEntries(Object.entries(outputs).filter(([name]) => !name.startsWith('state')));
  return gradient(on, { ...saved, ...inputs, ...Object.fromEntries(named) }, { ...known, ...options });
}
