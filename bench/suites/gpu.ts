import * as tf from '@tensorflow/tfjs-core';
import { createGpujs, free, fromTensor, toTensor } from '@seqloom/kernels-gpu/gpujs';
import type { Gpujs, GpujsArray } from '@seqloom/kernels-gpu/gpujs';
import { gpuCalls, gradientCalls } from '../gpu/calls.ts';
import type { GpuCall, Size } from '../gpu/calls.ts';
import { contractOf, gpujsInputs, MATMUL, runGpujsGradient, tensorOf, wholeInputs } from '../gpu/contracts.ts';
import type { Contract, GpujsInputs, GpujsKernel } from '../gpu/contracts.ts';
import {
  GPU_BACKEND,
  gpuBackend,
  gpuCandidate,
  gpuCandidates,
  onGpu,
  PEAK_BYTES,
  PLAIN_GPU_BACKEND,
  READ_BACKS,
  startWebGpu,
} from '../gpu/device.ts';
import { flush } from '../gpu/count.ts';
import { decodeCase, DECODE } from '../gpu/decode.ts';
import { FORWARD, GPUJS } from '../gpu/writings.ts';
import type { Candidate, Case, Outputs, Prepared } from '../measure/candidate.ts';
import { COMPOSED, OURS } from '../measure/candidate.ts';
import { directionCheck, doubles, uniform } from '../measure/inputs.ts';
import { equals } from '../measure/parity.ts';
import type { Bench, CaseResult, Floor, Suite } from '../measure/suite.ts';
import { floor, rowOf } from '../measure/suite.ts';
import { gradientCall, useBackend } from '../measure/tfjs.ts';
import type { HostArray } from '../measure/tfjs.ts';
import { matmulSoftmaxMatmul } from './softmax-attention.ts';

const TFJS = 'tfjs-webgpu';
const BOTH = 'forward + backward';

const sizeOf = ({ quick, gpu }: Bench): Size => (quick ? 'quick' : gpu?.software === false ? 'real' : 'emulated');
const nameOf = ({ title, shape }: GpuCall, direction: string): string => `${title}, ${direction}, ${shape}`;

let running: Promise<Gpujs> | undefined;
/** gpu.js on tfjs's device, started with the first case. */
const startGpujs = (): Promise<Gpujs> => (running ??= createGpujs({ mode: 'webgpu' }));

/** The inputs of a call, in memory. */
function drawn({ inputs }: GpuCall): Record<string, HostArray> {
  return Object.fromEntries(Object.entries(inputs).map(([name, { shape, data }]) => [name, { shape, data }]));
}

/** Inputs on the device, where real numbers stay between the calls. */
async function lend(
  gpujs: Gpujs,
  given: Readonly<Record<string, HostArray>>,
  tensors: Readonly<Record<string, tf.Tensor>>,
): Promise<{ inputs: GpujsInputs; release(): void }> {
  const lent = await Promise.all(
    Object.entries(tensors)
      .filter(([name]) => !wholeInputs.includes(name))
      .map(async ([name, tensor]) => [name, await fromTensor(gpujs, tensor)] as const),
  );
  const host = gpujsInputs(Object.fromEntries(Object.entries(given).filter(([name]) => wholeInputs.includes(name))));
  return {
    inputs: { ...host, ...Object.fromEntries(lent.map(([name, { array }]) => [name, array])) },
    release: () => lent.forEach(([, each]) => each.release()),
  };
}

/** A candidate in gpu.js on arrays of the device; nothing is read back. */
function gpujsCandidate(gpujs: Gpujs, run: () => Promise<Readonly<Record<string, GpujsArray>>>): Candidate {
  return {
    name: GPUJS,
    implementation: 'gpu.js kernels, a submit each',
    ...onGpu(GPU_BACKEND, async () => free(...Object.values(await run()))),
    outputs: async () => {
      const arrays = await run();
      const read = Object.entries(arrays).map(async ([name, array]) => [name, (await gpujs.toHost(array)).data] as const);
      const outputs = Object.fromEntries(await Promise.all(read)) as Outputs;
      free(...Object.values(arrays));
      return outputs;
    },
  };
}

/** The same from tensors and back into tfjs, which goes on with the result: what the way costs. */
function roundTrip(gpujs: Gpujs, kernel: GpujsKernel, call: GpuCall, tensors: Readonly<Record<string, tf.Tensor>>): Candidate {
  const run = async (): Promise<{ output: tf.Tensor; release(): void }> => {
    const lent = await lend(gpujs, call.inputs, tensors);
    const arrays = await kernel(gpujs, lent.inputs, { ...call.options, onDevice: true });
    lent.release();
    const back = await toTensor(gpujs, arrays['output']!);
    // a dispatch of tfjs that uploads nothing and changes nothing
    const output = tf.maximum(back, back);
    back.dispose();
    // tfjs has only encoded its part, and the buffer belongs to gpu.js
    flush(gpuBackend());
    return { output, release: () => free(...Object.values(arrays)) };
  };
  return {
    name: `${GPUJS}, from tensors and back`,
    implementation: 'a copy per tensor on the device',
    ...onGpu(GPU_BACKEND, async () => {
      const { output, release } = await run();
      output.dispose();
      release();
    }),
    outputs: async () => {
      const { output, release } = await run();
      const values = await output.data();
      output.dispose();
      release();
      return { output: values };
    },
  };
}

/** Tensors that are on the device already, as they are within a model. */
async function tensorsOnDevice(inputs: Readonly<Record<string, HostArray>>): Promise<Record<string, tf.Tensor>> {
  await useBackend(PLAIN_GPU_BACKEND);
  return Object.fromEntries(
    Object.entries(inputs).map(([name, array]) => {
      const fresh = tensorOf(name, array);
      (tf.backend() as unknown as { uploadToGPU(dataId: object): void }).uploadToGPU(fresh.dataId);
      return [name, fresh];
    }),
  );
}

async function forward(call: GpuCall, contract: Contract): Promise<Prepared> {
  const { options } = call;
  const inputs = drawn(call);
  const tensors = await tensorsOnDevice(inputs);
  const run = () => contract.run(tensors, options);
  const isProduct = call.kernel === MATMUL;
  const candidates: Candidate[] = isProduct
    ? [
        gpuCandidate(OURS, GPU_BACKEND, run, 'BatchMatMul of kernels-gpu'),
        gpuCandidate(TFJS, PLAIN_GPU_BACKEND, run, 'BatchMatMul of tfjs'),
      ]
    : [...gpuCandidates(run)];
  if (call.kernel === 'SoftmaxAttention') {
    const { query, key, value } = tensors;
    const plain = () => ({ output: matmulSoftmaxMatmul(query!, key!, value!) });
    candidates.push(gpuCandidate(TFJS, PLAIN_GPU_BACKEND, plain, 'matMul, softmax, matMul'));
  }
  const gpujs = await startGpujs();
  const lent = await lend(gpujs, inputs, tensors);
  if (contract.gpujs) {
    const kernel = contract.gpujs;
    candidates.push(gpujsCandidate(gpujs, () => kernel(gpujs, lent.inputs, { ...options, onDevice: true })));
    if (call.kernel === 'RmsNorm') candidates.push(roundTrip(gpujs, kernel, call, tensors));
  }
  const all = () => {
    const given = Object.fromEntries(Object.entries(inputs).map(([name, array]) => [name, doubles(array)]));
    return Object.entries(contract.oracle(given, options)).map(([name, { data }]) => equals(name, data));
  };
  return {
    candidates,
    checks: call.checks?.(inputs) ?? all(),
    skipped: contract.gpujs ? [] : [{ name: GPUJS, reason: 'this writing has no such kernel' }],
    dispose() {
      lent.release();
      tf.dispose(tensors);
    },
  };
}

async function both(call: GpuCall, contract: Contract): Promise<Prepared> {
  const { options } = call;
  const { differentiate, output } = call.gradient;
  const inputs = drawn(call);
  const cotangents = { [output.name]: uniform(output.shape, 6) };
  const tensors = await tensorsOnDevice(inputs);
  const weights = await tensorsOnDevice(cotangents);
  const moving = Object.fromEntries(differentiate.map((name) => [name, tensors[name]!]));
  const run = gradientCall((given) => contract.run({ ...tensors, ...given }, options), moving, weights);
  const candidates: Candidate[] = [...gpuCandidates(run)];
  const gpujs = await startGpujs();
  const [lent, lentWeights] = [await lend(gpujs, inputs, tensors), await lend(gpujs, {}, weights)];
  const { gpujs: ahead, gpujsGradient: back } = contract;
  if (ahead && back) {
    const settings = { ...options, onDevice: true };
    const gradients = async () => {
      const outputs = await ahead(gpujs, lent.inputs, settings);
      const cotangents = lentWeights.inputs as Record<string, GpujsArray>;
      const found = await runGpujsGradient(gpujs, back, { inputs: lent.inputs, outputs, cotangents, options: settings });
      free(...Object.values(outputs));
      return Object.fromEntries(Object.entries(found).map(([name, array]) => [`gradient of ${name}`, array]));
    };
    candidates.push(gpujsCandidate(gpujs, gradients));
  }
  const weight = cotangents[output.name]!.data;
  const still = Object.fromEntries(Object.entries(inputs).map(([name, array]) => [name, doubles(array)]));
  const chosen = Object.fromEntries(differentiate.map((name) => [name, inputs[name]!]));
  const loss: Parameters<typeof directionCheck>[1] = (given) => {
    const { data } = contract.oracle({ ...still, ...given }, options)[output.name]!;
    return data.reduce((sum, value, place) => sum + value * weight[place]!, 0);
  };
  return {
    candidates,
    checks: [directionCheck(chosen, loss)],
    agreement: 1e-3,
    skipped: ahead && back ? [] : [{ name: GPUJS, reason: 'this writing has no such gradient' }],
    dispose() {
      lent.release();
      lentWeights.release();
      tf.dispose([tensors, weights]);
    },
  };
}

function casesOf(size: Size): Case[] {
  const aheads = gpuCalls(size).map((call): Case => {
    const { flops, bytes } = call;
    const work = { ...(flops !== undefined && { flops }), bytes };
    return { name: nameOf(call, FORWARD), work, prepare: () => forward(call, contractOf(call.kernel)) };
  });
  const boths = gradientCalls(size).map((call): Case => {
    const { flops, bytes } = call;
    // a gradient is twice the work of its forward
    const work = { ...(flops !== undefined && { flops: 3 * flops }), bytes: 2 * bytes };
    return { name: nameOf(call, BOTH), work, prepare: () => both(call, contractOf(call.kernel)) };
  });
  return [...aheads, ...boths];
}

/** A floor on speed: what an emulated GPU measures is shown, but decides nothing. */
function speed(what: string, limit: number, ratio: number | null | undefined, emulated: boolean): Floor {
  const found = floor(what, 'at least', limit, ratio);
  return emulated ? { ...found, met: null, open: 'needs a GPU' } : found;
}

function floors(results: readonly CaseResult[], bench: Bench): Floor[] {
  const calls = gpuCalls(sizeOf(bench));
  const emulated = bench.gpu?.software !== false;
  const ratios = (kernel: string, candidate: string): Floor[] =>
    calls
      .filter((call) => call.kernel === kernel)
      .map((call) => {
        const name = nameOf(call, FORWARD);
        const limit = { [MATMUL]: 1.5, LinearAttention: 8, SoftmaxAttention: 5 }[kernel]!;
        return speed(`${name}, against ${candidate}`, limit, rowOf(results, name, candidate)?.ratio, emulated);
      });
  const memory = calls
    .filter(({ linearMemory }) => linearMemory)
    .map((call) => {
      const row = rowOf(results, nameOf(call, FORWARD), OURS);
      return floor(
        `${nameOf(call, FORWARD)}: bytes held over those of inputs and outputs`,
        'at most',
        1,
        row && row.facts[PEAK_BYTES]! / call.bytes,
      );
    });
  // decoding alone reads something, its logits
  const readBacks = results.filter(({ name }) => name !== DECODE).flatMap(({ rows }) => rows.map(({ facts }) => facts[READ_BACKS]!));
  return [
    ...ratios(MATMUL, TFJS),
    ...ratios('LinearAttention', COMPOSED),
    ...ratios('SoftmaxAttention', COMPOSED),
    ...memory,
    floor('read-backs of a kernel call, in any writing', 'at most', 0, readBacks.length > 0 ? Math.max(...readBacks) : null, ''),
    floor(DECODE, 'at most', 2, rowOf(results, DECODE, OURS)?.facts['submits'], ' submits'),
  ];
}

/** The kernel contracts on WebGPU. */
export const gpu: Suite = {
  name: 'gpu',
  title: 'Kernels on WebGPU',
  about:
    'Every kernel contract on one device: `seqloom` is the WGSL writing, `composed` the same call on plain tfjs-webgpu ops, `gpu.js webgpu` the gpu.js writing on arrays of the same device, `tfjs-webgpu` what a tfjs program would write. Inputs stay on the device and nothing is read back, but one row of logits per token in decoding; a sample ends when the device has done all of its work. Counts are those of one call after the first.',
  peers: [],
  start: startWebGpu,
  cases: (bench) => [...casesOf(sizeOf(bench)), decodeCase(sizeOf(bench))],
  floors,
};
