import * as tf from '@tensorflow/tfjs-core';
import { Heap } from '../../packages/kernels-wasm/src/heap.ts';
import type { WasmBackend } from '../../packages/kernels-wasm/src/heap.ts';
import { bestBuild, compileBuild } from '../../packages/kernels-wasm/src/load.ts';
import type { Candidate, Case, Prepared } from '../measure/candidate.ts';
import { OURS } from '../measure/candidate.ts';
import { bytesOf, uniform } from '../measure/inputs.ts';
import { equals } from '../measure/parity.ts';
import type { Bench, Suite } from '../measure/suite.ts';
import { floor, rowOf } from '../measure/suite.ts';
import { FUSED_BACKEND, PLAIN_BACKEND, tensorsOf, tfCandidate, useBackend } from '../measure/tfjs.ts';
import type { HostArray } from '../measure/tfjs.ts';

interface Product {
  readonly name: string;
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** b is given as [batch, n, k] */
  readonly transposeB?: boolean;
  /** also by the kernel alone */
  readonly aloneToo?: boolean;
}

const ALONE = 'kernel alone';
const BATCHED = '64 x (64x64x64)';
const LARGE = '1024x1024x1024';

const products: readonly Product[] = [
  { name: BATCHED, batch: 64, m: 64, n: 64, k: 64, aloneToo: true },
  { name: LARGE, batch: 1, m: 1024, n: 1024, k: 1024 },
  { name: 'attention scores: 8 x (1024x1024x64), second factor transposed', batch: 8, m: 1024, n: 1024, k: 64, transposeB: true },
  { name: 'attention read: 8 x (1024x64x1024)', batch: 8, m: 1024, n: 64, k: 1024 },
  { name: 'projection: 2048x256x256', batch: 1, m: 2048, n: 256, k: 256 },
  { name: 'one row: 1x1024x1024', batch: 1, m: 1, n: 1024, k: 1024 },
];
const small: readonly Product[] = [
  { name: '4 x (16x16x16)', batch: 4, m: 16, n: 16, k: 16, aloneToo: true },
  { name: '3 x (17x9x33), second factor transposed', batch: 3, m: 17, n: 9, k: 33, transposeB: true },
];

/** Rows of the product that a plain loop in double precision checks: the outermost of the first and last matrices. */
function checkedRows({ batch, m, n, k, transposeB }: Product, a: HostArray, b: HostArray): { rows: number[]; wanted: Float64Array } {
  const rows = [...new Set([0, m - 1, (batch - 1) * m, batch * m - 1])];
  const wanted = new Float64Array(rows.length * n);
  rows.forEach((row, index) => {
    const matrix = Math.floor(row / m) * k * n;
    for (let column = 0; column < n; column++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += a.data[row * k + i]! * b.data[matrix + (transposeB ? column * k + i : i * n + column)]!;
      wanted[index * n + column] = sum;
    }
  });
  return { rows, wanted };
}

/**
 * The kernel of the batched product without tfjs, and always on its first matrices, which then stay in the nearest cache: no call of ours can be
 * faster than this.
 */
async function kernelAlone({ batch, m, n, k }: Product, a: HostArray, b: HostArray): Promise<Candidate> {
  await useBackend(FUSED_BACKEND);
  const build = bestBuild();
  const heap = new Heap(tf.backend() as WasmBackend, await compileBuild(build));
  const { kernels, backend } = heap;
  const [left, right] = [a.data.subarray(0, m * k), b.data.subarray(0, k * n)];
  const inputs = [tf.tensor(left, [m, k]), tf.tensor(right, [k, n])] as const;
  const result = heap.output([m, n]);
  const [x, y, z] = heap.pointers(...inputs, result);
  const pack = backend.wasm._malloc(kernels.packBytes(n, k));
  const run = (): void => {
    for (let each = 0; each < batch; each++) kernels.gemm(m, n, k, x, 4 * k, false, y, 4 * n, false, z, 4 * n, 1, false, pack);
  };
  const { rows, wanted } = checkedRows(
    { name: '', batch: 1, m, n, k },
    { shape: [1, m, k], data: left },
    { shape: [1, k, n], data: right },
  );
  return {
    name: ALONE,
    implementation: `gemm (${build}), one pair of matrices again and again`,
    run,
    outputs() {
      run();
      return { 'one product': new Float32Array(backend.wasm.HEAPU8.buffer, z, m * n).slice() };
    },
    checks: [equals('one product', wanted, { part: (values) => pickRows(values, rows, n), tolerance: 1e-5 })],
    dispose() {
      tf.dispose([...inputs]);
      backend.wasm._free(pack);
      backend.disposeData(result.dataId, true);
    },
  };
}

const pickRows = (values: ArrayLike<number>, rows: readonly number[], n: number): Float64Array =>
  Float64Array.from({ length: rows.length * n }, (_, place) => values[rows[Math.floor(place / n)]! * n + (place % n)]!);

async function prepare(product: Product, { peers }: Bench): Promise<Prepared> {
  const { batch, m, n, k, transposeB = false } = product;
  const a = uniform([batch, m, k], 1);
  const b = uniform(transposeB ? [batch, n, k] : [batch, k, n], 2);
  const { rows, wanted } = checkedRows(product, a, b);
  const tensors = tensorsOf({ a, b });
  const call = () => ({ product: tf.matMul(tensors.a, tensors.b, false, transposeB) });
  const candidates: Candidate[] = [
    tfCandidate(OURS, FUSED_BACKEND, call, 'BatchMatMul of kernels-wasm'),
    tfCandidate('tfjs-wasm', PLAIN_BACKEND, call, 'BatchMatMul of tfjs'),
  ];
  if (peers.jax) {
    const jax = peers.jax.candidate(
      [a, b],
      ({ numpy }, left, right) => numpy.matmul(left!, transposeB ? numpy.swapaxes(right!, 1, 2) : right!),
      (values) => ({ product: values }),
    );
    candidates.push(jax);
  }
  if (peers.gpuJs) {
    const second = transposeB ? 'b[this.thread.z][this.thread.x][i]' : 'b[this.thread.z][i][this.thread.x]';
    const source = `function (a, b) {
      let sum = 0;
      for (let i = 0; i < this.constants.k; i++) sum += a[this.thread.z][this.thread.y][i] * ${second};
      return sum;
    }`;
    candidates.push(peers.gpuJs.candidate([a, b], source, { output: [n, m, batch], constants: { k } }, 'product'));
  }
  if (peers.onnxRuntime) {
    // ONNX's own product knows no transposes, the runtime's does
    const operator = transposeB
      ? ({ operator: 'FusedMatMul', domain: 'com.microsoft', attributes: { transB: { int: 1 } } } as const)
      : ({ operator: 'MatMul' } as const);
    candidates.push(await peers.onnxRuntime.candidate({ ...operator, inputs: [a, b], outputs: ['product'] }));
  }
  if (product.aloneToo) candidates.push(await kernelAlone(product, a, b));
  const part = (values: ArrayLike<number>): Float64Array => pickRows(values, rows, n);
  return { candidates, checks: [equals('product', wanted, { part, tolerance: 1e-5 })], dispose: () => tf.dispose(tensors) };
}

/** Products of matrices, alone and in batches. */
export const matmul: Suite = {
  name: 'matmul',
  title: 'Matrix products',
  about:
    'tfjs programs spend most of their time here. The batched shapes are those of attention; `tfjs-wasm` is tfjs as it comes, `seqloom` the same call after `useWasmKernels()`.',
  peers: ['jax-js', 'gpu.js', 'onnxruntime'],
  cases: (bench): Case[] =>
    (bench.quick ? small : products).map((product) => ({
      name: product.name,
      work: {
        flops: 2 * product.batch * product.m * product.n * product.k,
        bytes: bytesOf([
          { shape: [product.batch, product.m, product.k] },
          { shape: [product.batch, product.k, product.n] },
          { shape: [product.batch, product.m, product.n] },
        ]),
      },
      prepare: () => prepare(product, bench),
    })),
  floors: (results) => [
    floor(`${BATCHED} against tfjs-wasm`, 'at least', 15, rowOf(results, BATCHED, 'tfjs-wasm')?.ratio),
    floor(`${BATCHED} against jax-js`, 'at least', 3, rowOf(results, BATCHED, 'jax-js')?.ratio),
    floor(`${BATCHED}, share of the FMA peak`, 'at least', 0.6, rowOf(results, BATCHED, OURS)?.ofPeak, ''),
    floor(`${LARGE} against tfjs-wasm`, 'at least', 1.3, rowOf(results, LARGE, 'tfjs-wasm')?.ratio),
  ],
  notes(results) {
    const share = rowOf(results, BATCHED, 'jax-js')?.ofPeak;
    const alone = rowOf(results, BATCHED, ALONE)?.ofPeak;
    if (!share || !alone) return [];
    const percent = (part: number): string => `${Math.round(100 * part)} %`;
    return [
      `${BATCHED}: three times the rate of jax-js would be ${percent(3 * share)} of the FMA loop's; the kernel alone, without tfjs and with matrices that never leave the nearest cache, reaches ${percent(alone)}`,
    ];
  },
};
