import * as tf from '@tensorflow/tfjs-core';
import { checkIndices, checkTensor } from './check-tensor.ts';
import { defineKernel } from './define.ts';
import type { Kernel } from './define.ts';
import { gatherRowsKernel, scatterAddRowsKernel } from './rows.ts';

/** Tensors that `expertMatMul` reads. */
export type ExpertMatMulInputs = {
  /** float32 [N, D] */
  readonly input: tf.Tensor;
  /** int32 [N]: the expert of each row, 0 to E - 1, or -1 for none */
  readonly experts: tf.Tensor;
  /** float32 [E, D, F], one matrix per expert */
  readonly weight: tf.Tensor;
};

/** Settings of the `ExpertMatMul` kernel: none. */
export type ExpertMatMulAttributes = Record<string, never>;

/** The kernel contract behind `expertMatMul`. */
export const expertMatMulKernel: Kernel<ExpertMatMulInputs, ExpertMatMulAttributes, 'output'> = defineKernel<
  ExpertMatMulInputs,
  ExpertMatMulAttributes,
  'output'
>({
  name: 'ExpertMatMul',
  outputs: ['output'],
  composed({ input, experts, weight }) {
    const [rows, count, inner, outer] = sizesOf(input, weight);
    if (rows === 0) return { output: tf.zeros([0, outer]) };
    if (tf.getBackend() === 'cpu') return { output: onHost({ input, experts, weight }) };
    if (fewRows(rows, count)) {
      const chosen = gatherMatrices(experts, weight);
      return { output: tf.reshape(tf.matMul(tf.reshape(keepChosen(input, experts), [rows, 1, inner]), chosen), [rows, outer]) };
    }
    const ids = spread(experts, outer);
    let output: tf.Tensor = tf.zeros([rows, outer]);
    for (let expert = 0; expert < count; expert++) {
      output = replace(output, () => tf.where(isExpert(ids, expert), tf.matMul(input as tf.Tensor2D, matrixOf(weight, expert)), output));
    }
    return { output };
  },
  gradient: {
    inputs: ['input', 'weight'],
    needs: [],
    composed({ input, experts, weight }, _saved, { output: upstream }) {
      const [rows, count, inner, outer] = sizesOf(input, weight);
      if (rows === 0) return { input: tf.zeros(input.shape), weight: tf.zeros(weight.shape) };
      if (tf.getBackend() === 'cpu') return gradientOnHost({ input, experts, weight }, upstream);
      if (fewRows(rows, count)) {
        const given = tf.reshape(keepChosen(upstream, experts), [rows, 1, outer]) as tf.Tensor3D;
        const pairs = tf.mul(tf.reshape(keepChosen(input, experts), [rows, inner, 1]), given); // [N, D, F]
        const indices = tf.maximum(experts, tf.scalar(0, 'int32'));
        const sums = scatterAddRowsKernel.run({ rows: tf.reshape(pairs, [rows, inner * outer]), indices }, { rowCount: count }).table;
        const chosen = gatherMatrices(experts, weight);
        return { input: tf.reshape(tf.matMul(given, chosen, false, true), [rows, inner]), weight: tf.reshape(sums, weight.shape) };
      }
      const [ids, innerIds] = [spread(experts, outer), spread(experts, inner)];
      const turnedInput = tf.transpose(input) as tf.Tensor2D;
      let toInput: tf.Tensor = tf.zeros([rows, inner]);
      const toWeight: tf.Tensor[] = [];
      for (let expert = 0; expert < count; expert++) {
        toInput = replace(toInput, () => {
          // tfjs-wasm is ten times slower at a product of two matrices with a flag
          const turned = tf.transpose(matrixOf(weight, expert)) as tf.Tensor2D;
          return tf.where(isExpert(innerIds, expert), tf.matMul(upstream as tf.Tensor2D, turned), toInput);
        });
        const own = tf.tidy(() => tf.matMul(turnedInput, tf.where(isExpert(ids, expert), upstream, tf.zerosLike(upstream)) as tf.Tensor2D));
        toWeight.push(own);
      }
      return { input: toInput, weight: tf.stack(toWeight) };
    },
  },
});

/**
 * The product of each row with the matrix of its expert: `output[n] = input[n] weight[experts[n]]`, a row of zeros where the expert is -1.
 *
 * What a mixture of experts spends its time on. Fused, an expert without rows costs nothing, and the order of the sums does not depend on
 * anything but the inputs; composed, every expert sees every row (but for few rows), since no backend but the CPU can be asked which are its
 * own. Memory grows with N.
 *
 * @param inputs `input` float32 [N, D], `experts` int32 [N] from -1 to E - 1, `weight` float32 [E, D, F]
 * @returns output [N, F], differentiable by input and weight
 * @throws SeqLoomError when a shape or dtype does not fit, or (on cpu and wasm) an expert is out of range
 */
export function expertMatMul(inputs: ExpertMatMulInputs): tf.Tensor2D {
  const { input, experts, weight } = inputs;
  const extents = new Map<string, number>();
  checkTensor('expert-matmul', 'input', input, ['rows?', 'channels'], extents);
  checkTensor('expert-matmul', 'experts', experts, ['rows?'], extents, 'int32');
  checkTensor('expert-matmul', 'weight', weight, ['experts', 'channels', 'outer channels'], extents);
  checkIndices('expert-matmul', 'experts', experts, weight.shape[0]!, -1);
  return expertMatMulKernel.run({ input, experts, weight }, {}).output as tf.Tensor2D;
}

function sizesOf(input: tf.Tensor, weight: tf.Tensor): [number, number, number, number] {
  return [input.shape[0]!, ...(weight.shape as [number, number, number])];
}

// a matrix per row then takes no more memory than the experts themselves
function fewRows(rows: number, count: number): boolean {
  return rows <= count;
}

/** `next`, with what it replaces and all that it made on the way freed: the loop over experts would keep it to its end. */
function replace(before: tf.Tensor, next: () => tf.Tensor): tf.Tensor {
  const after = tf.tidy(next);
  before.dispose();
  return after;
}

/** The rows that have an expert, zeros for the others. */
function keepChosen(rows: tf.Tensor, experts: tf.Tensor): tf.Tensor2D {
  const chosen = tf.greaterEqual(spread(experts, rows.shape[1]!), tf.scalar(0, 'int32'));
  // not a product with the mask: rows without an expert may be infinite
  return tf.where(chosen, rows, tf.zerosLike(rows)) as tf.Tensor2D;
}

// experts [N] as [N, width]; tfjs-wasm broadcasts no conditions
function spread(experts: tf.Tensor, width: number): tf.Tensor {
  return tf.add(tf.reshape(experts, [experts.size, 1]), tf.zeros([experts.size, width], 'int32'));
}

function isExpert(ids: tf.Tensor, expert: number): tf.Tensor {
  return tf.equal(ids, tf.scalar(expert, 'int32'));
}

function matrixOf(weight: tf.Tensor, expert: number): tf.Tensor2D {
  const [, inner, outer] = weight.shape as [number, number, number];
  return tf.reshape(tf.slice(weight, [expert, 0, 0], [1, inner, outer]), [inner, outer]);
}

/** The matrix of each row, the first one's where it has none: [N, D, F]. */
function gatherMatrices(experts: tf.Tensor, weight: tf.Tensor): tf.Tensor3D {
  const [count, inner, outer] = weight.shape as [number, number, number];
  const table = tf.reshape(weight, [count, inner * outer]);
  const indices = tf.maximum(experts, tf.scalar(0, 'int32'));
  return tf.reshape(gatherRowsKernel.run({ table, indices }, {}).rows, [experts.size, inner, outer]);
}

type Numbers = Float32Array;

/** Plain loops for tfjs's plain backend, where tensors lie in this process anyway. */
function onHost({ input, experts, weight }: ExpertMatMulInputs): tf.Tensor {
  const [rows, , inner, outer] = sizesOf(input, weight);
  const [x, e, w] = [input.dataSync() as Numbers, experts.dataSync(), weight.dataSync() as Numbers];
  const y = new Float32Array(rows * outer);
  for (let n = 0; n < rows; n++) {
    if (e[n]! < 0) continue;
    for (let d = 0; d < inner; d++) {
      const value = x[n * inner + d]!;
      const from = (e[n]! * inner + d) * outer;
      for (let f = 0; f < outer; f++) y[n * outer + f]! += value * w[from + f]!;
    }
  }
  return tf.tensor2d(y, [rows, outer]);
}

function gradientOnHost({ input, experts, weight }: ExpertMatMulInputs, upstream: tf.Tensor): { input: tf.Tensor; weight: tf.Tensor } {
  const [rows, , inner, outer] = sizesOf(input, weight);
  const [x, e, w] = [input.dataSync() as Numbers, experts.dataSync(), weight.dataSync() as Numbers];
  const dy = upstream.dataSync() as Numbers;
  const [dx, dw] = [new Float32Array(x.length), new Float32Array(w.length)];
  for (let n = 0; n < rows; n++) {
    if (e[n]! < 0) continue;
    for (let d = 0; d < inner; d++) {
      const value = x[n * inner + d]!;
      const from = (e[n]! * inner + d) * outer;
      let sum = 0;
      for (let f = 0; f < outer; f++) {
        const given = dy[n * outer + f]!;
        sum += given * w[from + f]!;
        dw[from + f]! += value * given;
      }
      dx[n * inner + d] = sum;
    }
  }
  return { input: tf.tensor2d(dx, [rows, inner]), weight: tf.tensor3d(dw, weight.shape as [number, number, number]) };
}
