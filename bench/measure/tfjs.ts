import * as tf from '@tensorflow/tfjs-core';
import { kernelRuns, resetKernelRuns, setupBackend } from '@seqloom/core';
import { useWasmKernels } from '@seqloom/kernels-wasm';
import type { Build } from '@seqloom/kernels-wasm';
import type { Candidate, Outputs, Work } from './candidate.ts';
import { COMPOSED, FORWARD_ALONE, OURS } from './candidate.ts';

/** Backend names: one tfjs-wasm heap under two names, with the kernels of kernels-wasm and without. */
export const FUSED_BACKEND = 'wasm';
export const PLAIN_BACKEND = 'wasm-plain';

/**
 * Starts tfjs-wasm, copies its kernels to a second name, then installs kernels-wasm under the first.
 *
 * Fused and composed forms so run in one process, on one heap and on the same tensors.
 *
 * @returns the label of the build, e.g. `kernels-wasm (relaxed)`
 */
export async function startTfjs(build?: Build): Promise<string> {
  await setupBackend('wasm', { kernels: [] });
  const backend = tf.backend();
  tf.registerBackend(PLAIN_BACKEND, () => backend);
  tf.copyRegisteredKernels(FUSED_BACKEND, PLAIN_BACKEND);
  const { label } = await useWasmKernels(build ? { build } : {});
  return label;
}

/** Makes a backend current. */
export async function useBackend(name: string): Promise<void> {
  if (tf.getBackend() !== name) await tf.setBackend(name);
}

/** Which implementations the kernel contracts used since the record was cleared: labels, or `composed` with the kernels' names. */
export function implementationReport(): string {
  const runs = kernelRuns();
  resetKernelRuns();
  const fused = runs.filter(({ implementation }) => implementation.kind === 'fused');
  const composed = [...new Set(runs.filter(({ implementation }) => implementation.kind === 'composed').map(({ kernel }) => kernel))];
  const labels = [...new Set(fused.map(({ implementation }) => (implementation.kind === 'fused' ? implementation.label : '')))];
  return [...labels, ...(composed.length > 0 ? [`composed ${composed.join(', ')}`] : [])].join('; ');
}

/** Plain data on the host, as every candidate gets it. */
export interface HostArray {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

/** Host arrays as tensors on the current backend. */
export function tensorsOf<K extends string>(arrays: Readonly<Record<K, HostArray>>): Record<K, tf.Tensor> {
  return Object.fromEntries(
    Object.entries<HostArray>(arrays).map(([name, { shape, data }]) => [name, tf.tensor(data, [...shape], 'float32')]),
  ) as Record<K, tf.Tensor>;
}

/** A candidate that runs tfjs ops; `call` returns tensors by output name, which are freed. */
export function tfCandidate(
  name: string,
  backend: string,
  call: () => Readonly<Record<string, tf.Tensor>>,
  implementation?: string,
): Candidate {
  return {
    name,
    backend,
    ...(implementation !== undefined && { implementation }),
    run: () => tf.dispose(Object.values(tf.tidy(() => call() as Record<string, tf.Tensor>))),
    outputs: async () => {
      const results = tf.tidy(() => call() as Record<string, tf.Tensor>);
      const entries = await Promise.all(Object.entries(results).map(async ([key, tensor]) => [key, await tensor.data()] as const));
      tf.dispose(Object.values(results));
      return Object.fromEntries(entries) as Outputs;
    },
  };
}

/** Our op twice: with the kernels of kernels-wasm, and composed of plain tfjs ops. */
export function ourCandidates(call: () => Readonly<Record<string, tf.Tensor>>): [Candidate, Candidate] {
  return [tfCandidate(OURS, FUSED_BACKEND, call), tfCandidate(COMPOSED, PLAIN_BACKEND, call)];
}

/** Our forward, to be timed in turns with forward and backward; its results are held to those of the case that times it against its peers. */
export function forwardAlone(call: () => Readonly<Record<string, tf.Tensor>>, work: Work): Candidate {
  return { ...tfCandidate(FORWARD_ALONE, FUSED_BACKEND, call), checks: [], work };
}

/**
 * Forward and backward as one call: gradients by input name, for an upstream gradient of given cotangents on the outputs.
 *
 * @param op the op under test
 * @param inputs its differentiable inputs
 * @param cotangents gradient of the loss by output name; outputs without one do not count
 */
export function gradientCall(
  op: (inputs: Record<string, tf.Tensor>) => Readonly<Record<string, tf.Tensor>>,
  inputs: Readonly<Record<string, tf.Tensor>>,
  cotangents: Readonly<Record<string, tf.Tensor>>,
): () => Record<string, tf.Tensor> {
  const names = Object.keys(inputs);
  const weighed = Object.keys(cotangents);
  // its value does not matter: the time is that of the op's two directions alone
  const loss = tf.customGrad(() => ({
    value: tf.scalar(0),
    gradFunc: () => weighed.map((name) => tf.clone(cotangents[name]!)),
  }));
  const gradients = tf.grads((...moving: tf.Tensor[]) => {
    const outputs = op(Object.fromEntries(names.map((name, index) => [name, moving[index]!])));
    return loss(...weighed.map((name) => outputs[name]!));
  });
  return () => {
    const results = gradients(names.map((name) => inputs[name]!));
    return Object.fromEntries(names.map((name, index) => [`gradient of ${name}`, results[index]!]));
  };
}
