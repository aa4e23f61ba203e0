import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { checkKernelGolden, naiveSoftmaxAttention, readGoldenArrays } from '@seqloom/testing';
import type { Array64, NaiveSoftmaxAttentionInputs } from '@seqloom/testing';
import { registerGradients } from '../gradient/index.ts';
import { softmaxAttention, softmaxAttentionKernel } from './softmax-attention.ts';
import type { SoftmaxAttentionInputs, SoftmaxAttentionOptions } from './softmax-attention.ts';

type Name = keyof SoftmaxAttentionInputs;
type Arrays = NaiveSoftmaxAttentionInputs;
const DIFFERENTIABLE = ['query', 'key', 'value', 'bias', 'sinkLogits', 'slopes'] as const satisfies readonly Name[];

function randomSource(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function normal(random: () => number, shape: number[], scale = 1): Array64 {
  const size = shape.reduce((a, b) => a * b, 1);
  // float32-exact numbers, so that both sides start from the same inputs
  const data = Float64Array.from({ length: size }, () =>
    Math.fround(scale * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())),
  );
  return { shape, data };
}

interface Case {
  seed: number;
  inputs: Arrays;
  options: SoftmaxAttentionOptions;
}

/** One random call: every option comes and goes. */
function randomCase(seed: number): Case {
  const random = randomSource(seed);
  const pick = <X>(...choices: X[]): X => choices[Math.floor(random() * choices.length)]!;
  const B = pick(1, 2);
  const T = pick(1, 2, 5, 7, 9);
  const S = pick(T, T, T + 3, Math.max(1, T - 2));
  const G = pick(1, 2);
  const H = G * pick(1, 2, 3);
  const D = pick(2, 3, 4);
  const inputs: Arrays = {
    query: normal(random, [B, T, H, D]),
    key: normal(random, [B, S, G, D]),
    value: normal(random, [B, S, G, pick(2, 5)]),
  };
  if (random() < 0.3) inputs.bias = normal(random, [pick(1, B), pick(1, H), T, S]);
  if (random() < 0.3) inputs.sinkLogits = normal(random, [H]);
  if (random() < 0.3) inputs.slopes = { shape: [H], data: Float64Array.from({ length: H }, () => Math.fround(random())) };
  if (random() < 0.3) {
    inputs.keyPositions = { shape: [B, S], data: Float64Array.from({ length: B * S }, () => Math.floor(random() * (S + 3)) - 1) };
  }
  if (random() < 0.3) {
    inputs.queryPositions = { shape: [B, T], data: Float64Array.from({ length: B * T }, () => Math.floor(random() * (S + 3))) };
  }
  const aligned = inputs.keyPositions !== undefined && !inputs.queryPositions && random() < 0.5;
  if (aligned) inputs.keyPositions!.data.forEach((_, index, data) => (data[index] = random() < 0.3 ? -1 : index % S));
  const options: SoftmaxAttentionOptions = {
    aligned,
    causal: pick(true, false),
    window: pick(null, null, 1, 2, 4, 20),
    dilation: pick(1, 1, 2, 3),
    sinks: pick(0, 0, 1, 3),
    prefix: pick(0, 0, 2),
    softCap: pick(null, null, 1.5),
    scale: pick(undefined, 0.7),
    blockSize: pick(undefined, 1, 2, 3, 4),
  };
  return { seed, inputs, options: Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) };
}

function toTensors(inputs: Arrays): SoftmaxAttentionInputs {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, array]) => [
      name,
      tf.tensor(Float32Array.from((array as Array64).data), [...(array as Array64).shape]),
    ]),
  ) as unknown as SoftmaxAttentionInputs;
}

/** Largest difference, relative to the largest number; infinities have to agree exactly. */
function distance(given: ArrayLike<number>, wanted: Float64Array): number {
  let difference = 0;
  let size = 1;
  wanted.forEach((value, index) => {
    if (given[index] === value) return;
    difference = Number.isNaN(given[index]!) || !Number.isFinite(value) ? Infinity : Math.max(difference, Math.abs(given[index]! - value));
    size = Math.max(size, Math.abs(value));
  });
  return difference / size;
}

interface Cotangents {
  output: Array64;
  logSumExp: Array64;
}

function naiveLoss(inputs: Arrays, options: SoftmaxAttentionOptions, cotangents: Cotangents): number {
  const { output, logSumExp } = naiveSoftmaxAttention(inputs, options as never);
  const seen = (value: number, index: number, weights: Array64): number => (value === -Infinity ? 0 : value * weights.data[index]!);
  return (
    output.data.reduce((sum, value, index) => sum + seen(value, index, cotangents.output), 0) +
    logSumExp.data.reduce((sum, value, index) => sum + seen(value, index, cotangents.logSumExp), 0)
  );
}

function centralDifferences(inputs: Arrays, options: SoftmaxAttentionOptions, cotangents: Cotangents, name: Name): Float64Array {
  const { shape, data } = inputs[name]!;
  const step = 1e-5;
  return data.map((value, index) => {
    const at = (x: number): number => {
      const moved = data.slice();
      moved[index] = x;
      return naiveLoss({ ...inputs, [name]: { shape, data: moved } }, options, cotangents);
    };
    return (at(value + step) - at(value - step)) / (2 * step);
  });
}

function gradients(inputs: SoftmaxAttentionInputs, options: SoftmaxAttentionOptions, cotangents: Cotangents): Record<string, tf.Tensor> {
  const names = DIFFERENTIABLE.filter((name) => inputs[name]);
  const output = tf.tensor(Float32Array.from(cotangents.output.data), [...cotangents.output.shape]);
  const logSumExp = tf.tensor(Float32Array.from(cotangents.logSumExp.data), [...cotangents.logSumExp.shape]);
  const results = tf.grads((...tensors: tf.Tensor[]) => {
    const result = softmaxAttention({ ...inputs, ...Object.fromEntries(names.map((name, index) => [name, tensors[index]])) }, options);
    // keeps the -Infinity of empty rows out of the sum
    return tf.add(tf.sum(tf.mul(result.output, output)), tf.sum(tf.mul(tf.maximum(result.logSumExp, -1e20), logSumExp))) as tf.Scalar;
  })(names.map((name) => inputs[name]!));
  return Object.fromEntries(names.map((name, index) => [name, results[index]!]));
}

function check({ seed, inputs, options }: Case, tolerance = { forward: 3e-6, gradient: 2e-5 }): void {
  const label = JSON.stringify({ seed, options, inputs: Object.entries(inputs).map(([name, array]) => [name, (array as Array64).shape]) });
  const wanted = naiveSoftmaxAttention(inputs, options as never);
  const random = randomSource(seed + 1);
  const cotangents = { output: normal(random, [...wanted.output.shape]), logSumExp: normal(random, [...wanted.logSumExp.shape]) };
  tf.tidy(() => {
    const tensors = toTensors(inputs);
    const result = softmaxAttention(tensors, options);
    expect(distance(result.output.dataSync(), wanted.output.data), `output of ${label}`).toBeLessThan(tolerance.forward);
    expect(distance(result.logSumExp.dataSync(), wanted.logSumExp.data), `logSumExp of ${label}`).toBeLessThan(tolerance.forward);
    const found = gradients(tensors, options, cotangents);
    for (const [name, gradient] of Object.entries(found)) {
      expect(gradient.shape, `gradient of ${name} in ${label}`).toEqual(inputs[name as Name]!.shape);
      const numeric = centralDifferences(inputs, options, cotangents, name as Name);
      expect(distance(gradient.dataSync(), numeric), `gradient of ${name} in ${label}`).toBeLessThan(tolerance.gradient);
    }
  });
}

describe.each(['cpu', 'wasm'])('SoftmaxAttention on %s', (backend) => {
  let tensors = 0;
  beforeAll(async () => {
    await tf.setBackend(backend);
    registerGradients();
  });
  beforeEach(() => {
    tensors = tf.memory().numTensors;
  });
  afterEach(() => {
    expect(tf.memory().numTensors, 'tensors left behind').toBe(tensors);
  });

  it.each([0, 1, 2, 3, 4, 5])('equals the oracle over random options, outputs and all gradients (lot %i)', (lot) => {
    for (let seed = lot * 15; seed < lot * 15 + 15; seed++) check(randomCase(seed));
  });

  it.each([1, 7, 63, 65, 100])('equals the oracle at T = %i in one tile and in many', (T) => {
    const random = randomSource(T);
    const inputs: Arrays = { query: normal(random, [1, T, 2, 4]), key: normal(random, [1, T, 1, 4]), value: normal(random, [1, T, 1, 3]) };
    for (const options of [{ causal: true }, { causal: true, window: 9, sinks: 2 }, { window: 5 }] as SoftmaxAttentionOptions[]) {
      const wanted = naiveSoftmaxAttention(inputs, options as never);
      for (const blockSize of [16, 512]) {
        tf.tidy(() => {
          const result = softmaxAttention(toTensors(inputs), { ...options, blockSize });
          expect(distance(result.output.dataSync(), wanted.output.data)).toBeLessThan(3e-6);
          expect(distance(result.logSumExp.dataSync(), wanted.logSumExp.data)).toBeLessThan(3e-6);
        });
      }
    }
    if (T <= 63) check({ seed: T, inputs, options: { causal: true, window: 9, sinks: 2, blockSize: 16 } });
  });

  it.each(['tiny', 'medium_gqa', 'window', 'sinks', 'noncausal', 'hard'])('equals the golden case %s', async (name) => {
    const golden = await readGoldenArrays(new URL(`../../golden/softmax-attn/${name}.safetensors`, import.meta.url));
    const names = { query: 'q', key: 'k', value: 'v', sinkLogits: 'sink_bias' };
    const take = (kind: string): Record<string, Array64> =>
      Object.fromEntries(
        Object.entries(names).flatMap(([mine, theirs]) => (golden[`${kind}.${theirs}`] ? [[mine, golden[`${kind}.${theirs}`]!]] : [])),
      );
    const window = name === 'window' ? 9 : null;
    await checkKernelGolden(backend, {
      inputs: take('in'),
      run: (inputs) => {
        const result = softmaxAttention(inputs as unknown as SoftmaxAttentionInputs, {
          causal: name !== 'noncausal',
          window,
          blockSize: 16,
        });
        result.logSumExp.dispose();
        return { output: result.output };
      },
      outputs: { output: golden['out.o']! },
      cotangents: { output: golden['cot.o']! },
      gradients: take('grad'),
    });
  });

  it('survives logits of 1e4 and rows that see nothing', () => {
    const random = randomSource(5);
    const T = 6;
    const inputs: Arrays = {
      query: normal(random, [1, T, 1, 2], 100),
      key: normal(random, [1, T, 1, 2], 100),
      value: normal(random, [1, T, 1, 2]),
      keyPositions: { shape: [1, T], data: Float64Array.from([-1, 3, 0, -1, 5, 1]) },
      queryPositions: { shape: [1, T], data: Float64Array.from([0, 1, 2, 3, 4, -1]) },
    };
    // the scores reach 1e4, so float32 holds their fraction to 1e-3 only
    check({ seed: 5, inputs, options: { causal: true, scale: 1, blockSize: 4 } }, { forward: 1e-3, gradient: 2e-2 });
    tf.tidy(() => {
      const given = toTensors({ ...inputs, keyPositions: { shape: [1, T], data: new Float64Array(T).fill(-1) } });
      const attributes = {
        scale: 1,
        causal: true,
        window: null,
        dilation: 1,
        sinks: 0,
        prefix: 0,
        softCap: null,
        blockSize: 4,
        aligned: false,
      };
      const result = softmaxAttention(given, attributes);
      expect([...result.output.dataSync()]).toEqual(new Array(2 * T).fill(0));
      expect([...result.logSumExp.dataSync()]).toEqual(new Array(T).fill(-Infinity));
      const upstream = { output: tf.ones(result.output.shape), logSumExp: tf.ones(result.logSumExp.shape) };
      const found = softmaxAttentionKernel.definition.gradient!.composed(given, result, upstream, attributes);
      for (const gradient of Object.values(found)) expect([...gradient!.dataSync()].every((value) => value === 0)).toBe(true);
    });
  });

  it('takes -Infinity in a bias as hidden', () => {
    tf.tidy(() => {
      const random = randomSource(9);
      const inputs = { query: normal(random, [1, 3, 1, 2]), key: normal(random, [1, 3, 1, 2]), value: normal(random, [1, 3, 1, 2]) };
      const hidden = [0, -Infinity, -Infinity, 0, 0, -Infinity, 0, 0, 0];
      const bias = tf.tensor(hidden, [1, 1, 3, 3]);
      const wanted = naiveSoftmaxAttention(inputs, { causal: true });
      const result = softmaxAttention({ ...toTensors(inputs), bias }, { blockSize: 2 });
      expect(distance(result.output.dataSync(), wanted.output.data)).toBeLessThan(3e-6);
      const all = gradients({ ...toTensors(inputs), bias }, { blockSize: 2 }, wanted);
      for (const gradient of Object.values(all)) expect([...gradient.dataSync()].every(Number.isFinite)).toBe(true);
    });
  });

  it('makes nothing quadratic in T: peak bytes at T = 2048, forward and backward', () => {
    const T = 2048;
    const [H, D] = [1, 4];
    const make = (): tf.Tensor => tf.randomNormal([1, T, H, D], 0, 1, 'float32', 3);
    let peak = 0;
    const backendObject = tf.backend() as tf.KernelBackend & { disposeData(id: object, force?: boolean): boolean };
    const dispose = backendObject.disposeData;
    // memory only falls at a disposal, so the level just before each one contains every peak
    backendObject.disposeData = function (this: unknown, ...args: [object, boolean?]) {
      peak = Math.max(peak, tf.memory().numBytes);
      return dispose.apply(backendObject, args);
    };
    try {
      tf.tidy(() => {
        const before = tf.memory().numBytes;
        const [query, key, value] = [make(), make(), make()];
        for (const positions of [undefined, tf.reshape(tf.range(0, T), [1, T])]) {
          peak = 0;
          const found = tf.grads((q, k, v) =>
            tf.sum(softmaxAttention({ query: q!, key: k!, value: v!, queryPositions: positions }, { causal: true, blockSize: 128 }).output),
          )([query, key, value]);
          tf.dispose(found);
          // a tile is 64 KB, one T x T tensor 16 MB
          expect(peak - before, positions ? 'explicit positions' : 'default positions').toBeLessThan(2.5e6);
          expect(peak).toBeGreaterThan(before);
        }
      });
    } finally {
      backendObject.disposeData = dispose;
    }
  });

  it('refuses what does not fit, before any work', () => {
    tf.tidy(() => {
      const query = tf.zeros([1, 4, 4, 2]);
      const key = tf.zeros([1, 4, 2, 2]);
      expect(() => softmaxAttention({ query: tf.zeros([4, 4, 2]), key, value: key })).toThrow(/SoftmaxAttention: query must be/);
      expect(() => softmaxAttention({ query, key: tf.zeros([1, 4, 3, 2]), value: tf.zeros([1, 4, 3, 2]) })).toThrow(
        /divisor of the 4 query heads/,
      );
      expect(() => softmaxAttention({ query, key, value: tf.zeros([1, 5, 2, 2]) })).toThrow(
        /value must be a tensor of shape \[1, 4, 2, Dv\]/,
      );
      expect(() => softmaxAttention({ query: tf.cast(query, 'int32'), key, value: key })).toThrow(/query must be float32; got int32/);
      expect(() => softmaxAttention({ query, key, value: key, bias: tf.zeros([2, 1, 4, 4]) })).toThrow(
        /bias must be \[1 or 1, 1 or 4, 4, 4\]/,
      );
      expect(() => softmaxAttention({ query, key, value: key }, { window: 0 })).toThrow(
        /options.window must be a whole number of at least 1/,
      );
      expect(() => softmaxAttention({ query, key, value: key }, { softCap: 0 })).toThrow(/options.softCap/);
    });
  });
});
