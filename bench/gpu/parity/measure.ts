import * as tf from '@tensorflow/tfjs-core';
import type { Gpujs, GpujsArray } from '@seqloom/kernels-gpu/gpujs';
import { compareNumbers } from '../../../packages/testing/src/closeness.ts';
import { centralDifferences, uniform64 } from '../../../packages/testing/src/oracle/index.ts';
import type { Array64, Arrays64 } from '../../../packages/testing/src/oracle/index.ts';
import { gradientCall } from '../../measure/tfjs.ts';
import { contractOf, gpujsInputs, runGpujsGradient, tensorOf } from '../contracts.ts';
import type { Contract } from '../contracts.ts';
import type { ParityCase } from './cases.ts';

/** Errors of one kernel in one writing, the worst of its cases. */
export interface ParityRow {
  readonly kernel: string;
  readonly cases: number;
  /** largest difference of an output over the largest magnitude in it; null where the writing has no such kernel */
  readonly outputs: number | null;
  /** the same of a gradient; null where there is none */
  readonly gradients: number | null;
  /** what did not run, and why */
  readonly faults: readonly string[];
}

type Numbers = Readonly<Record<string, { readonly shape: readonly number[]; readonly data: ArrayLike<number> }>>;

/** What a writing gives for a case, under the weights of its loss. */
interface Found {
  readonly outputs: Numbers;
  readonly gradients: Numbers | null;
}
/** One writing on one device. */
export interface Writing {
  has(contract: Contract): boolean;
  run(contract: Contract, call: ParityCase, cotangents: Readonly<Record<string, Array64>>): Promise<Found>;
}

/** The largest difference over the largest magnitude, the worst of all arrays; infinite where one is missing. */
function largestError(found: Numbers, wanted: Arrays64): number {
  const errors = Object.entries(wanted).map(([name, right]) => {
    const given = found[name];
    return given ? compareNumbers({ shape: given.shape, data: given.data }, right!).max : Infinity;
  });
  return Math.max(0, ...errors);
}

const known = new WeakMap<ParityCase, Record<string, Array64>>();

/** What the specification says is the same for all writings, and takes longer than they do. */
function gradientsOf(call: ParityCase, find: () => Record<string, Array64>): Record<string, Array64> {
  const found = known.get(call) ?? find();
  known.set(call, found);
  return found;
}

/** Compares a kernel in one writing with double precision. */
export async function measureKernel(writing: Writing, kernel: string, calls: readonly ParityCase[]): Promise<ParityRow> {
  const contract = contractOf(kernel);
  const mine = calls.filter((call) => call.kernel === kernel);
  if (!writing.has(contract)) return { kernel, cases: 0, outputs: null, gradients: null, faults: [] };
  const row = { kernel, cases: 0, outputs: null as number | null, gradients: null as number | null, faults: [] as string[] };
  for (const call of mine) {
    const { inputs, options, differentiate, lossTerms } = call;
    const oracle = (given: Arrays64): Arrays64 => contract.oracle(given as Record<string, Array64>, options);
    const wanted = oracle(inputs);
    const cotangents = Object.fromEntries(lossTerms.map((name, index) => [name, uniform64(wanted[name]!.shape, 7001 + index)]));
    try {
      const found = await writing.run(contract, call, cotangents);
      row.outputs = Math.max(row.outputs ?? 0, largestError(found.outputs, wanted));
      if (found.gradients) {
        const right = gradientsOf(call, () => centralDifferences(oracle, inputs, cotangents, differentiate));
        row.gradients = Math.max(row.gradients ?? 0, largestError(found.gradients, right));
      }
      row.cases++;
    } catch (error) {
      row.faults.push(`${JSON.stringify(options)}: ${(error as Error).message.split('\n')[0]}`);
    }
  }
  return row;
}

/** The kernels of the tfjs backend in use. */
export const onTfjs: Writing = {
  has: () => true,
  async run(contract, { inputs, options, differentiate, lossTerms }, cotangents) {
    const tensors = Object.fromEntries(Object.entries(inputs).map(([name, array]) => [name, tensorOf(name, array)]));
    const read = async (results: Readonly<Record<string, tf.Tensor>>): Promise<Numbers> => {
      const entries = Object.entries(results).map(async ([name, tensor]) => [name, { shape: tensor.shape, data: await tensor.data() }]);
      const numbers = Object.fromEntries(await Promise.all(entries)) as Numbers;
      tf.dispose(Object.values(results));
      return numbers;
    };
    try {
      const outputs = await read(contract.run(tensors, options));
      if (differentiate.length === 0 || lossTerms.length === 0) return { outputs, gradients: null };
      const weights = Object.fromEntries(Object.entries(cotangents).map(([name, array]) => [name, tensorOf(name, array)]));
      const moving = Object.fromEntries(differentiate.map((name) => [name, tensors[name]!]));
      const found = await read(gradientCall((given) => contract.run({ ...tensors, ...given }, options), moving, weights)());
      tf.dispose(Object.values(weights));
      return { outputs, gradients: Object.fromEntries(differentiate.map((name) => [name, found[`gradient of ${name}`]!])) };
    } finally {
      tf.dispose(Object.values(tensors));
    }
  },
};

/** The kernels in gpu.js, in the mode that it was started with. */
export function inGpujs(gpujs: Gpujs): Writing {
  return {
    has: (contract) => contract.gpujs !== undefined,
    async run(contract, { inputs, options, differentiate, lossTerms }, cotangents) {
      const given = gpujsInputs(inputs);
      const outputs = await contract.gpujs!(gpujs, given, options);
      const { gpujsGradient } = contract;
      const numbers = outputs as Numbers;
      if (!gpujsGradient || differentiate.length === 0 || lossTerms.length === 0) return { outputs: numbers, gradients: null };
      const weights = gpujsInputs(cotangents) as Record<string, GpujsArray>;
      const gradients = await runGpujsGradient(gpujs, gpujsGradient, { inputs: given, outputs, cotangents: weights, options });
      return { outputs: numbers, gradients: gradients as Numbers };
    },
  };
}
