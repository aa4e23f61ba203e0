import { blockAttention, expertMatMul, explain, rmsNorm, setupBackend, softmaxAttention, softmaxCrossEntropy } from '@seqloom/core';
import {
  array64,
  checkKernelParity,
  naiveBlockAttention,
  naiveExpertMatMul,
  naiveMatMul,
  naiveRmsNorm,
  naiveSoftmaxAttention,
  naiveSoftmaxCrossEntropy,
  relativeError64,
  tensorOf,
  uniform64,
} from '@seqloom/testing';
import type { Array64, KernelParityCase } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { gpuTuning, useGpuKernels } from '../use-gpu-kernels.ts';
import type { GpuBackend } from './device.ts';
import { candidates, tileName } from './tuning.ts';
import type { GpuTuning, MatMulTile } from './tuning.ts';

const use = (tuning: Partial<GpuTuning>) => setupBackend('webgpu', { kernels: [() => useGpuKernels({ tuning })], strict: true });

/** Relative error of a product against float64. */
async function errorOf(m: number, n: number, k: number, transposeA = false, transposeB = false): Promise<number> {
  const a = tf.randomUniform<tf.Rank.R2>(transposeA ? [k, m] : [m, k], -1, 1, 'float32', m);
  const b = tf.randomUniform<tf.Rank.R2>(transposeB ? [n, k] : [k, n], -1, 1, 'float32', n + 1000);
  const c = tf.matMul(a, b, transposeA, transposeB);
  const wanted = naiveMatMul(await a.data<'float32'>(), await b.data<'float32'>(), m, n, k, transposeA, transposeB);
  const error = relativeError64(await c.data(), wanted);
  tf.dispose([a, b, c]);
  return error;
}

function attention(tokens: number, heads: number, groups: number, bias = false): KernelParityCase {
  return {
    inputs: {
      query: uniform64([1, tokens, heads, 5], 1, -2, 2),
      key: uniform64([1, tokens, groups, 5], 2, -2, 2),
      value: uniform64([1, tokens, groups, 3], 3),
      ...(bias && { bias: uniform64([1, 1, tokens, tokens], 4), slopes: uniform64([heads], 5, 0, 1) }),
    },
    run: (inputs) => softmaxAttention(inputs as never, { causal: true }),
    oracle: (inputs) => naiveSoftmaxAttention(inputs as never, { causal: true } as never),
    differentiate: ['query', 'key', 'value', 'bias', 'slopes'],
  };
}

const blocks: KernelParityCase = {
  inputs: {
    query: uniform64([1, 50, 2, 4], 1, -2, 2),
    key: uniform64([1, 50, 1, 4], 2, -2, 2),
    value: uniform64([1, 50, 1, 3], 3),
    blocks: array64([1, 1, 3, 2], [0, -1, 0, 1, 1, 0]),
  },
  integers: ['blocks'],
  run: (inputs) => blockAttention(inputs as never, { queryBlock: 20, keyBlock: 40 }),
  oracle: (inputs) => naiveBlockAttention(inputs as never, { queryBlock: 20, keyBlock: 40 }),
  differentiate: ['query', 'key', 'value'],
};

const experts: KernelParityCase = {
  inputs: {
    input: uniform64([140, 19], 1),
    experts: array64(
      [140],
      Array.from({ length: 140 }, (_, row) => ((row * 7) % 4) - 1),
    ),
    weight: uniform64([3, 19, 21], 2),
  },
  integers: ['experts'],
  run: (inputs) => ({ output: expertMatMul(inputs as never) }),
  oracle: (inputs) => naiveExpertMatMul(inputs as never),
  differentiate: ['input', 'weight'],
};

/** Bits of a product, of attention's output and its gradients, and of a norm and a loss with their gradients. */
async function bits(): Promise<Float32Array> {
  const made = tf.tidy(() => {
    const at = (shape: number[], seed: number) => tf.randomUniform(shape, -1, 1, 'float32', seed);
    const [query, key, value] = [at([1, 40, 2, 8], 1), at([1, 40, 1, 8], 2), at([1, 40, 1, 8], 3)] as tf.Tensor4D[];
    const both = (...inputs: tf.Tensor[]) => {
      const [q, k, v] = inputs as tf.Tensor4D[];
      return tf.sum(softmaxAttention({ query: q!, key: k!, value: v! }, { causal: true }).output);
    };
    const loss = (x: tf.Tensor) =>
      tf.sum(softmaxCrossEntropy({ logits: rmsNorm({ input: x }) as tf.Tensor2D, labels: tf.zeros<tf.Rank.R1>([70], 'int32') }).loss);
    const product = tf.matMul(at([130, 70], 4) as tf.Tensor2D, at([70, 90], 5) as tf.Tensor2D);
    const gradients = tf.grads(both)([query!, key!, value!]);
    return tf.concat1d([product, ...gradients, tf.grad(loss)(at([70, 300], 6))].map((part) => tf.reshape(part, [-1]) as tf.Tensor1D));
  });
  const values = await made.data<'float32'>();
  made.dispose();
  return values;
}

describe('tiles of the matrix product', () => {
  it.each(candidates.matMul.map((tile) => [tileName(tile), tile] as const))('%s: equals float64', async (_, tile) => {
    await use({ matMul: tile, smallMatMul: tile });
    for (const [m, n, k] of [
      [9, 17, 33],
      [64, 64, 70],
      [130, 71, 5],
      [131, 260, 3],
    ] as const)
      for (const a of [false, true])
        for (const b of [false, true]) expect(await errorOf(m, n, k, a, b), `${m} x ${n} x ${k} ${a} ${b}`).toBeLessThan(3e-6);
    await checkKernelParity('webgpu', experts);
  });

  it('take the smaller one for products of few workgroups', async () => {
    const [small, large] = [candidates.matMul[0], candidates.matMul[1]] as [MatMulTile, MatMulTile];
    await use({ matMul: large, smallMatMul: small });
    const sizes: string[] = [];
    const { device } = tf.backend() as GpuBackend;
    const create = device.createComputePipeline.bind(device);
    device.createComputePipeline = (descriptor) => {
      sizes.push(descriptor.label ?? '');
      return create(descriptor);
    };
    // names of variants that no test before has compiled
    tf.tidy(() => {
      tf.fused.matMul({ a: tf.ones([9, 5]), b: tf.ones([5, 6]), activation: 'relu' });
      tf.fused.matMul({ a: tf.ones([9 * 64, 5]), b: tf.ones([5, 510]), activation: 'relu' });
    });
    device.createComputePipeline = create;
    expect(sizes.map((name) => name.split('-').slice(2))).toEqual([
      ['32x32x16/4x4', 'f32'],
      ['64x64x16/4x4', 'f32'],
    ]);
  });
});

describe('tiles of attention', () => {
  it.each(candidates.attention.map((tile) => [tileName(tile), tile] as const))('%s: equals float64', async (_, tile) => {
    await use({ attention: tile });
    for (const call of [attention(70, 2, 1), attention(1, 2, 2), attention(37, 2, 1, true), blocks])
      await checkKernelParity('webgpu', call);
  });
});

describe('sums over rows', () => {
  it('can use what the adapter offers: the device was asked for with its features', async () => {
    await use({});
    const adapter = await navigator.gpu.requestAdapter();
    const { features } = (tf.backend() as GpuBackend).device;
    for (const name of ['subgroups', 'shader-f16', 'timestamp-query']) expect(features.has(name), name).toBe(adapter!.features.has(name));
  });
  it.for([false, true])('by subgroup operations: %s; equal float64', async (subgroups, { skip }) => {
    await use({ subgroups });
    const has = (tf.backend() as GpuBackend).device.features.has('subgroups');
    expect(gpuTuning()!.tuning.subgroups).toBe(subgroups && has);
    if (subgroups && !has) skip('this device has no subgroups: only the other writing was tested');
    for (const width of [1, 7, 300]) {
      await checkKernelParity('webgpu', {
        inputs: { input: uniform64([9, width], 1), weight: uniform64([width], 2), gate: uniform64([9, width], 3) },
        run: (inputs) => ({ output: rmsNorm(inputs as never) }),
        oracle: (inputs) => naiveRmsNorm(inputs as never),
        differentiate: ['input', 'weight', 'gate'],
      });
      const options = { labelSmoothing: 0.2, zLoss: 0.1, softCap: 1.5 };
      await checkKernelParity('webgpu', {
        inputs: { logits: uniform64([3, width], width, -4, 4), labels: array64([3], [0, width - 1, -1]) },
        integers: ['labels'],
        run: (inputs) => softmaxCrossEntropy(inputs as never, options),
        oracle: (inputs) => naiveSoftmaxCrossEntropy(inputs as never, options),
        differentiate: ['logits'],
      });
    }
    // a maximum in any invocation's hands, and NaN
    const logits = tf.tensor2d(
      Array.from({ length: 256 * 300 }, (_, place) => (place % 300 === Math.floor(place / 300) ? 1e4 : -1e4)),
      [256, 300],
    );
    const labels = tf.range(0, 256, 1, 'int32');
    const { loss, logSumExp } = softmaxCrossEntropy({ logits, labels });
    expect([...(await loss.data())]).toEqual(Array.from({ length: 256 }, () => 0));
    expect([...(await logSumExp.data())]).toEqual(Array.from({ length: 256 }, () => 1e4));
    tf.dispose([logits, labels, loss, logSumExp]);
  });
});

/** Numbers that are 16-bit floats already. */
const coarse = ({ shape, data }: Array64): Array64 =>
  array64(
    shape,
    data.map((value) => Math.round(value * 256) / 256),
  );

describe('tiles of 16-bit floats', () => {
  const wide: MatMulTile = { rows: 128, columns: 128, inner: 16, rowsEach: 8, columnsEach: 8 };
  it.each([
    ['64x64x16/4x4', {}],
    ['128x128x16/8x8', { matMul: wide, smallMatMul: wide }],
  ] as const)('lose three digits and a half of a product, and none of numbers that fit: %s', async (_, tiles) => {
    await use({ ...tiles, halfTiles: true });
    expect(explain().kernelPackages).toEqual(['kernels-gpu (wgsl, given tuning, half tiles)']);
    const { features } = (tf.backend() as GpuBackend).device;
    expect(gpuTuning()!.tileNumbers).toBe(features.has('shader-f16') ? 'f16' : 'packed');
    for (const [m, n, k] of [
      [130, 71, 40],
      [9, 140, 333],
    ] as const) {
      const error = await errorOf(m, n, k);
      expect(error).toBeLessThan(5e-4);
      expect(error).toBeGreaterThan(5e-5);
      const [a, b] = [coarse(uniform64([m, k], 1)), coarse(uniform64([k, n], 2))];
      const [left, right] = [tensorOf(a) as tf.Tensor2D, tensorOf(b) as tf.Tensor2D];
      const product = tf.matMul(left, right);
      const wanted = naiveMatMul(Float32Array.from(a.data), Float32Array.from(b.data), m, n, k, false, false);
      expect(relativeError64(await product.data(), wanted)).toBeLessThan(1e-6);
      tf.dispose([left, right, product]);
    }
    await checkKernelParity('webgpu', {
      ...experts,
      inputs: { ...experts.inputs, input: coarse(experts.inputs['input']!) },
      outputTolerance: 5e-4,
      differentiate: [],
    });
  });

  it('lose three digits and a half of attention, and none of keys and values that fit, in all passes', async () => {
    await use({ halfTiles: true, attention: { own: 16, other: 64 } });
    for (const call of [attention(70, 2, 1), attention(37, 2, 1, true), blocks]) {
      const { key, value } = call.inputs;
      await checkKernelParity('webgpu', { ...call, inputs: { ...call.inputs, key: coarse(key!), value: coarse(value!) } });
      await checkKernelParity('webgpu', { ...call, outputTolerance: 1e-3, differentiate: [] });
      await expect(checkKernelParity('webgpu', { ...call, differentiate: [] })).rejects.toThrow(/relative rms error/);
    }
    await use({ halfTiles: true });
    await checkKernelParity('webgpu', { ...attention(70, 2, 1), outputTolerance: 1e-3, differentiate: [] });
  });
});

describe('a tuning', () => {
  it.each<[string, Partial<GpuTuning>]>([
    ['of the table', {}],
    [
      'that is given',
      { matMul: candidates.matMul.at(-1)!, smallMatMul: candidates.matMul[2]!, attention: { own: 16, other: 64 }, subgroups: true },
    ],
    ['with tiles of 16-bit floats', { halfTiles: true }],
  ])('gives the same bits twice: one %s', async (_, tuning) => {
    await use(tuning);
    const first = await bits();
    expect(first.every(Number.isFinite)).toBe(true);
    expect(await bits()).toEqual(first);
    // and after another one was in use
    await use({ smallMatMul: candidates.matMul[0]! });
    expect((await bits()).length).toBe(first.length);
    await use(tuning);
    expect(await bits()).toEqual(first);
  });

  it('that is given takes the place of single settings of the table, and goes with undo', async () => {
    await setupBackend('webgpu', { kernels: [() => useGpuKernels({ tuning: 'table' })] });
    const table = gpuTuning()!;
    expect([table.origin, table.tileNumbers]).toEqual(['table', 'f32']);
    expect(table.adapter.length).toBeGreaterThan(3);
    expect(explain().kernelPackages).toEqual(['kernels-gpu (wgsl)']);
    const kernels = useGpuKernels({ tuning: { attention: { own: 8, other: 16 } } });
    expect(kernels.label).toBe('kernels-gpu (wgsl, given tuning)');
    expect(gpuTuning()).toEqual({ ...table, origin: 'given', tuning: { ...table.tuning, attention: { own: 8, other: 16 } } });
    kernels.undo();
    expect(gpuTuning()).toEqual(table);
    expect(() => useGpuKernels({ tuning: { attention: { own: 9, other: 16 } } })).toThrow(
      /tuning\.attention\.own must be 8, 16 or 32; got 9/,
    );
    expect(gpuTuning()).toEqual(table);
  });
});
