import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { elementwiseGradients } from './elementwise.ts';
import { gatherGradients } from './gather.ts';
import { registerGradients } from './index.ts';
import { matmulGradients } from './matmul.ts';
import { reductionGradients } from './reduction.ts';
import { shapeGradients } from './shape.ts';

const structural = [...reductionGradients(), ...shapeGradients(), ...matmulGradients(), ...gatherGradients()].map(
  ({ kernelName }) => kernelName,
);
const used = new Set<string>();
const present = [...elementwiseGradients().map(({ kernelName }) => kernelName), ...structural].filter(
  (name) => tf.getGradient(name) != null,
);
const own: tf.GradConfig = { kernelName: 'Add', gradFunc: () => ({}) };
tf.registerGradient(own);
const registered = registerGradients();
const kept = tf.getGradient('Add');
tf.unregisterGradient('Add');
const restored = registerGradients();

beforeAll(() => {
  // count the kernels whose gradient ran, so that a gradient without a test is seen
  for (const kernelName of structural) {
    const config = tf.getGradient(kernelName);
    tf.unregisterGradient(kernelName);
    tf.registerGradient({ ...config, gradFunc: (...args) => (used.add(kernelName), config.gradFunc(...args)) });
  }
});

afterAll(() => {
  expect(structural.filter((name) => !used.has(name))).toEqual([]);
});

/** Deterministic numbers in [-1, 1) with a spacing that keeps them distinct; `apart` scales them for kernels with kinks. */
function values(size: number, seed: number): number[] {
  let state = seed * 2654435761 + 12345;
  const order = Array.from({ length: size }, (_, i) => i);
  for (let i = size - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = state % (i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order.map((i) => (2 * (i + 0.25)) / size - 1);
}

type Op = (...inputs: tf.Tensor[]) => tf.Tensor;

/**
 * Compares `tf.grads` of Σ w ∘ f(inputs) with fourth-order central differences of every element, summed in float64.
 * The difference is exact for polynomials up to degree four, so only the rounding of the float32 forward remains.
 */
function expectGradient(op: Op, shapes: number[][], options: { data?: number[][]; step?: number; tolerance?: number } = {}): void {
  const { step = 0.0625, tolerance = 1e-4 } = options;
  const data = options.data ?? shapes.map((shape, i) => values(tf.util.sizeFromShape(shape), i + 1));
  const before = tf.memory().numTensors;
  const make = (points: number[][]): tf.Tensor[] => points.map((p, i) => tf.tensor(p, shapes[i], 'float32'));
  const weights = tf.tidy(() => {
    const out = op(...make(data));
    expect(out.dtype).toBe('float32');
    return { shape: out.shape, list: values(out.size, 77) };
  });
  const loss = (points: number[][]): number =>
    tf.tidy(() => Array.from(op(...make(points)).dataSync()).reduce((sum, y, i) => sum + y * Math.fround(weights.list[i]), 0));
  const gradients = tf.tidy(() =>
    tf
      .grads((...inputs) => op(...inputs))(make(data), tf.tensor(weights.list, weights.shape, 'float32'))
      .map((g) => g.dataSync()),
  );
  data.forEach((points, i) => {
    expect(gradients[i].length).toBe(points.length);
    points.forEach((_, j) => {
      const at = (offset: number): number => loss(data.map((p, k) => (k === i ? p.with(j, p[j] + offset) : p)));
      const expected = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
      const error = Math.abs(gradients[i][j] - expected) / Math.max(1, Math.abs(expected));
      expect(error, `input ${i} element ${j}: ${gradients[i][j]} should be ${expected}`).toBeLessThan(tolerance);
    });
  });
  expect(tf.memory().numTensors).toBe(before);
}

const indices = (list: number[], shape: number[]): tf.Tensor1D => tf.tensor(list, shape as [number], 'int32');
const linear = { step: 0.5, tolerance: 2e-5 };
/** Kinks are at least 0.5 apart when numbers are spread so. */
const apart = (size: number): object => ({ data: [values(size, 3).map((x) => x * size)], step: 0.125 });

const reductions: [string, Op, number[][], object?][] = [
  ['sum over all', (x) => tf.sum(x), [[2, 3]], linear],
  ['sum over axes', (x) => tf.sum(x, [0, -1]), [[2, 3, 2]], linear],
  ['sum keeping axes', (x) => tf.sum(x, 1, true), [[2, 3, 2]], linear],
  ['mean over all', (x) => tf.mean(x), [[2, 3]], linear],
  ['mean over axes', (x) => tf.mean(x, [1, 2]), [[2, 3, 2]], linear],
  ['mean keeping axes', (x) => tf.mean(x, -1, true), [[2, 3]], linear],
  ['prod over all', (x) => tf.prod(x), [[4]]],
  ['prod over an axis', (x) => tf.prod(x, 1), [[2, 3, 2]]],
  ['prod over axes', (x) => tf.prod(x, [0, 2], true), [[2, 3, 2]]],
  ['prod with zeros', (x) => tf.prod(x, 1), [[3, 3]], { data: [[0, 2, 3, 0, 0, 1, 1, 2, 3]] }],
  ['max over all', (x) => tf.max(x), [[6]], apart(6)],
  ['max over an axis', (x) => tf.max(x, 1), [[2, 3, 2]], apart(12)],
  ['max keeping axes', (x) => tf.max(x, [0, -1], true), [[2, 3, 2]], apart(12)],
  ['min over all', (x) => tf.min(x), [[6]], apart(6)],
  ['min over an axis', (x) => tf.min(x, 0), [[2, 3]], apart(6)],
  ['cumsum', (x) => tf.cumsum(x, 1), [[2, 4, 2]], linear],
  ['cumsum exclusive', (x) => tf.cumsum(x, 1, true), [[2, 4]], linear],
  ['cumsum reverse', (x) => tf.cumsum(x, 0, false, true), [[4, 2]], linear],
  ['cumsum exclusive reverse', (x) => tf.cumsum(x, 0, true, true), [[4, 2]], linear],
  ['cumprod', (x) => tf.cumprod(x, 1), [[2, 5, 2]]],
  ['cumprod of one', (x) => tf.cumprod(x, 0), [[1, 3]]],
  ['cumprod exclusive', (x) => tf.cumprod(x, 1, true), [[2, 5]]],
  ['cumprod reverse', (x) => tf.cumprod(x, 0, false, true), [[4, 2]]],
  ['cumprod exclusive reverse', (x) => tf.cumprod(x, 0, true, true), [[4]]],
  ['cumprod with zeros', (x) => tf.cumprod(x, 1), [[2, 4]], { data: [[2, 0, 3, 1, 1, 0, 2, 0]] }],
  ['softmax', (x) => tf.softmax(x), [[2, 5]]],
  ['logSoftmax, its own gradient', (x) => tf.logSoftmax(x), [[2, 5]]],
  ['logSumExp, composed', (x) => tf.logSumExp(x, 1), [[3, 4]]],
  ['moments, composed', (x) => tf.add(tf.moments(x, -1, true).variance, x), [[2, 4]]],
];

const shapeOps: [string, Op, number[][], object?][] = [
  ['reshape', (x) => tf.reshape(x, [3, -1]), [[2, 3, 2]], linear],
  ['expandDims', (x) => tf.expandDims(x, 1), [[2, 3]], linear],
  ['expandDims from the end', (x) => tf.expandDims(x, -1), [[2, 3]], linear],
  ['squeeze', (x) => tf.squeeze(x, [1]), [[2, 1, 3]], linear],
  ['transpose', (x) => tf.transpose(x, [2, 0, 3, 1]), [[2, 3, 2, 2]], linear],
  ['transpose without a permutation', (x) => tf.transpose(x), [[2, 3, 2]], linear],
  ['slice', (x) => tf.slice(x, [0, 1], [2, 2]), [[3, 4]], linear],
  ['slice to the end', (x) => tf.slice(x, [1, 1], [-1, 2]), [[3, 4]], linear],
  ['slice of leading axes', (x) => tf.slice(x, 1), [[3, 2, 2]], linear],
  ['stridedSlice', (x) => tf.stridedSlice(x, [0, 1], [5, 6], [2, 2]), [[5, 6]], linear],
  ['stridedSlice backwards', (x) => tf.stridedSlice(x, [4, -1], [0, 0], [-2, -3]), [[5, 6]], linear],
  ['stridedSlice, masks', (x) => tf.stridedSlice(x, [9, 1, 0], [2, 9, 2], [1, 2, 1], 1, 2), [[2, 5, 3]], linear],
  ['stridedSlice, a single index', (x) => tf.stridedSlice(x, [1, 1, 0], [2, 3, 3], [1, 1, 1], 0, 0, 0, 0, 1), [[2, 4, 3]], linear],
  ['stridedSlice, ellipsis and a new axis', (x) => tf.stridedSlice(x, [0, 0, 1], [0, 0, 3], [1, 1, 1], 0, 0, 1, 2, 0), [[2, 2, 4]], linear],
  ['concat', (x, y) => tf.concat([x, y, x], 1), [[2, 3], [2, 1]], linear], // prettier-ignore
  ['concat along the last axis', (x, y) => tf.concat([x, y], -1), [[2, 3], [2, 1]], linear], // prettier-ignore
  ['split in equal parts', (x) => tf.mul(...(tf.split(x, 2, 1) as [tf.Tensor, tf.Tensor])), [[2, 4]]],
  ['split of which one part is used', (x) => tf.split(x, [1, 3], -1)[1], [[2, 4]], linear],
  ['split in one', (x) => tf.split(x, 1, 0)[0], [[2, 2]], linear],
  ['stack', (x, y) => tf.stack([x, y, x], 1), [[2, 3], [2, 3]], linear], // prettier-ignore
  ['stack along the last axis', (x, y) => tf.stack([x, y], 2), [[2, 3], [2, 3]], linear], // prettier-ignore
  ['unstack', (x) => tf.mul(tf.unstack(x, 1)[0], tf.unstack(x, -2)[2]), [[2, 3, 2]]],
  ['unstack of one', (x) => tf.unstack(x, 0)[0], [[1, 3]], linear],
  ['tile', (x) => tf.tile(x, [2, 1, 3]), [[2, 3, 1]], linear],
  ['tile by one', (x) => tf.tile(x, [1, 1]), [[2, 3]], linear],
  ['broadcastTo, by tiling', (x) => tf.broadcastTo(x, [4, 2, 3]), [[2, 1]], linear],
  ['pad', (x) => tf.pad(x, [[1, 0], [2, 3]], 9), [[2, 3]], linear], // prettier-ignore
  ['mirrorPad reflect', (x) => tf.mirrorPad(x, [[1, 1], [2, 1]], 'reflect'), [[2, 4]], linear], // prettier-ignore
  ['mirrorPad symmetric', (x) => tf.mirrorPad(x, [[2, 1], [0, 3]], 'symmetric'), [[2, 3]], linear], // prettier-ignore
  ['reverse', (x) => tf.reverse(x, [0, -1]), [[2, 3, 2]], linear],
  ['reverse of all axes', (x) => tf.reverse(x), [[2, 3]], linear],
];

const products: [string, Op, number[][]][] = [
  ...[false, true].flatMap((tA) =>
    [false, true].flatMap((tB) => {
      const a = (...batch: number[]): number[] => [...batch, ...(tA ? [4, 3] : [3, 4])];
      const b = (...batch: number[]): number[] => [...batch, ...(tB ? [2, 4] : [4, 2])];
      const op: Op = (x, y) => tf.matMul(x, y, tA, tB);
      const name = `matMul${tA ? ', a transposed' : ''}${tB ? ', b transposed' : ''}`;
      return [
        [name, op, [a(), b()]],
        [`${name}, batch`, op, [a(2, 2), b(2, 2)]],
        [`${name}, one weight for a batch`, op, [a(2), b()]],
        [`${name}, one weight of rank 3`, op, [a(3), b(1)]],
        [`${name}, weights for the last batch axis`, op, [a(2, 3), b(3)]],
        [`${name}, one row set, many weights`, op, [a(), b(2)]],
      ] as [string, Op, number[][]][];
    }),
  ),
  ['dot', (x, y) => tf.dot(x as tf.Tensor1D, y as tf.Tensor1D), [[3], [3]]],
  ['fused matMul', (x, y, z) => tf.fused.matMul({ a: x, b: y, bias: z, activation: 'relu' }), [[2, 3], [3, 2], [2]]], // prettier-ignore
];

const einsums: [string, number[][]][] = [
  ['ij,jk->ik', [[2, 3], [3, 2]]], // prettier-ignore
  ['bhtd,bhsd->bhts', [[2, 1, 2, 3], [2, 1, 2, 3]]], // prettier-ignore
  ['i,j->ji', [[2], [3]]], // prettier-ignore
  ['ij->ji', [[2, 3]]],
  ['ijk->j', [[2, 3, 2]]],
  ['ij,ij->', [[2, 3], [2, 3]]], // prettier-ignore
];

const gathers: [string, Op, number[][], object?][] = [
  ['gather', (x) => tf.gather(x, indices([2, 0, 2, 1, 2], [5])), [[4, 3]], linear],
  ['gather of a scalar index', (x) => tf.gather(x, tf.scalar(1, 'int32')), [[3, 2]], linear],
  ['gather by a matrix of indices', (x) => tf.gather(x, indices([2, 0, 2, 1], [2, 2])), [[4, 3]], linear],
  ['gather from a vector', (x) => tf.gather(x, indices([2, 0, 2], [3])), [[4]], linear],
  ['gather along axis 1', (x) => tf.gather(x, indices([2, 0, 2, 1], [4]), 1), [[2, 3, 2]], linear],
  ['gather along the last axis', (x) => tf.gather(x, indices([1, 1, 0, 2], [2, 2]), -1), [[2, 2, 3]], linear],
  ['gather in batches along axis 2', (x) => tf.gather(x, indices([2, 0, 1, 1], [2, 2]), 2, 1), [[2, 2, 3, 2]], linear],
  ['gatherND', (x) => tf.gatherND(x, indices([0, 1, 1, 0, 0, 1], [3, 2])), [[2, 2, 3]], linear],
  ['gatherND of elements', (x) => tf.gatherND(x, indices([0, 1, 1, 2], [2, 2])), [[2, 3]], linear],
  ['scatterND', (x) => tf.scatterND(indices([3, 1, 3], [3, 1]) as unknown as tf.Tensor, x, [5, 2]), [[3, 2]], linear],
  [
    'tensorScatterUpdate',
    (x, y) => tf.tensorScatterUpdate(x, indices([3, 1], [2, 1]) as unknown as tf.Tensor, y),
    [[4, 2], [2, 2]], // prettier-ignore
    linear,
  ],
  ['topk', (x) => tf.topk(x, 2).values, [[2, 5]], apart(10)],
  ['topk indices as a constant', (x) => tf.add(tf.cast(tf.topk(x, 2).indices, 'float32'), tf.topk(x, 2).values), [[2, 5]], apart(10)],
  ['oneHot of indices computed from x', (x) => tf.add(tf.cast(tf.oneHot(tf.cast(x, 'int32'), 3), 'float32'), tf.sum(x)), [[2]], { data: [[0.5, 1.5]] }], // prettier-ignore
  ['argMax as a constant', (x) => tf.add(tf.cast(tf.add(tf.argMax(x, 1), tf.argMin(x, 1)), 'float32'), tf.sum(x, 1)), [[2, 3]], apart(6)],
  [
    'all and any as constants',
    (x) => tf.add(tf.cast(tf.logicalAnd(tf.all(tf.greater(x, -9), 1), tf.any(tf.less(x, 9), 1)), 'float32'), tf.sum(x, 1)),
    [[2, 3]],
  ],
];

describe('registerGradients', () => {
  it('finds none without the umbrella package, lists what it registers, replaces nothing and does nothing twice', () => {
    expect(present).toEqual([]);
    expect(kept).toBe(own);
    expect(restored).toEqual(['Add']);
    expect(registerGradients()).toEqual([]);
    expect([...registered, ...restored].sort()).toEqual(
      `
      Abs Acos Acosh Add AddN All Any ArgMax ArgMin Asin Asinh Atan Atan2 Atanh BatchMatMul Cast Ceil ClipByValue Concat Cos
      Cosh Cumprod Cumsum Einsum Elu Equal Erf Exp ExpandDims Expm1 Floor FloorDiv GatherNd GatherV2 Greater GreaterEqual
      Identity IsFinite IsInf IsNan LeakyRelu Less LessEqual Log Log1p LogicalAnd LogicalNot LogicalOr Max Maximum Mean Min
      Minimum MirrorPad Mod Multiply Neg NotEqual OneHot OnesLike Pack PadV2 Pow Prelu Prod RealDiv Reciprocal Relu Relu6
      Reshape Reverse Round Rsqrt ScatterNd Select Selu Sigmoid Sign Sin Sinh Slice Softmax Softplus SplitV Sqrt Square
      SquaredDifference Step StridedSlice Sub Sum Tan Tanh TensorScatterUpdate Tile TopK Transpose Unpack ZerosLike
      `
        .trim()
        .split(/\s+/),
    );
  });
});

describe('einsum', () => {
  it.each(einsums)('%s on cpu', async (equation, shapes) => {
    await tf.setBackend('cpu');
    expectGradient((...x) => tf.einsum(equation, ...x), shapes);
  });

  it('has no kernel on wasm, so there is nothing to differentiate', async () => {
    await tf.setBackend('wasm');
    expect(() => tf.tidy(() => tf.einsum('ij->ji', tf.ones([2, 2])))).toThrow(/not registered/);
  });
});

describe.each(['cpu', 'wasm'])('structural gradients on %s', (backend) => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  it.each([...reductions, ...shapeOps, ...gathers])('%s', (_name, op, shapes, options) => {
    expectGradient(op, shapes, options);
  });

  it.each(products)('%s', (_name, op, shapes) => expectGradient(op, shapes));

  it.each([
    ['one batch axis', [2, 3, 2], [2, 0, 2, 1, 1, 1], [2, 3], 1, 1],
    ['one batch axis and an axis between', [2, 2, 3, 2], [2, 0, 1, 1, 2, 2], [2, 3], 2, 1],
    ['two batch axes', [2, 2, 3], [2, 0, 1, 1, 0, 0, 2, 2], [2, 2, 2], 2, 2],
  ] as [string, number[], number[], number[], number, number][])(
    'adjoint of a gather with %s',
    (_name, shape, list, indexShape, axis, batchDims) => {
      // the gather itself is evaluated on plain arrays, as the wasm kernel reads the wrong index when count and batch differ
      const batch = tf.util.sizeFromShape(shape.slice(0, batchDims));
      const [size, count] = [shape[axis], list.length / batch];
      const outer = tf.util.sizeFromShape(shape.slice(batchDims, axis));
      const inner = tf.util.sizeFromShape(shape.slice(axis + 1));
      const outShape = [...shape.slice(0, axis), ...indexShape.slice(batchDims), ...shape.slice(axis + 1)];
      const upstream = values(tf.util.sizeFromShape(outShape), 5);
      const expected = Array.from({ length: tf.util.sizeFromShape(shape) }, () => 0);
      upstream.forEach((dy, at) => {
        const [n, i, o, b] = [
          at % inner,
          Math.floor(at / inner) % count,
          Math.floor(at / (inner * count)) % outer,
          Math.floor(at / (inner * count * outer)),
        ];
        expected[((b * outer + o) * size + list[b * count + i]) * inner + n] += dy;
      });
      const actual = tf.tidy(() => {
        const saved = [tf.zeros(shape), indices(list, indexShape)];
        const backward = tf.getGradient('GatherV2').gradFunc(tf.tensor(upstream, outShape), saved, { axis, batchDims });
        const gradient = backward.x();
        expect(gradient.shape).toEqual(shape);
        return gradient.dataSync();
      });
      expected.forEach((value, i) => expect(actual[i]).toBeCloseTo(value, 5));
    },
  );

  it('elements that tie for the maximum share its gradient', () => {
    expect([...tf.tidy(() => tf.grad((x) => tf.max(x, 1))(tf.tensor2d([[2, 2, 1, 2], [0, 0, 0, 5]])).dataSync())].map((g) => +g.toFixed(6))).toEqual(
      [0.333333, 0.333333, 0, 0.333333, 0, 0, 0, 1],
    ); // prettier-ignore
  });

  it.each([
    ['softmax', (x: tf.Tensor) => tf.mul(tf.softmax(x), x), [[2, 3]]],
    ['matMul', (x: tf.Tensor, y: tf.Tensor) => tf.square(tf.matMul(x, y)), [[2, 3], [3, 2]]], // prettier-ignore
    ['gather', (x: tf.Tensor) => tf.square(tf.gather(x, indices([1, 1, 0], [3]))), [[2, 2]]],
    ['cumsum', (x: tf.Tensor) => tf.square(tf.cumsum(x, 1)), [[2, 3]]],
    ['cumprod', (x: tf.Tensor) => tf.cumprod(x, 1), [[2, 3]]],
    ['slice', (x: tf.Tensor) => tf.square(tf.slice(x, [0, 1], [2, 2])), [[2, 3]]],
    ['mean', (x: tf.Tensor) => tf.square(tf.mean(x, 1)), [[2, 3]]],
  ] as [string, Op, number[][]][])('gradient of the gradient: %s', (_name, op, shapes) =>
    expectGradient((...x) => tf.square(tf.grads((...z) => op(...z))(x)[0]), shapes, { step: 0.03125 }),
  );

  it('trains embedding, two layers and a softmax through variableGrads', () => {
    const before = tf.memory().numTensors;
    const variable = (shape: number[], seed: number): tf.Variable =>
      tf.tidy(() => tf.variable(tf.tensor(values(tf.util.sizeFromShape(shape), seed), shape), true));
    const [table, first, bias, second] = [variable([5, 4], 1), variable([4, 6], 2), variable([6], 3), variable([6, 5], 4)];
    const tokens = indices([0, 3, 3, 1, 4, 2], [2, 3]);
    const targets = tf.tidy(() => tf.cast(tf.oneHot(indices([3, 1, 1, 4, 2, 0], [2, 3]), 5), 'float32'));
    const loss = (): tf.Scalar => {
      const hidden = tf.elu(tf.add(tf.matMul(tf.gather(table, tokens), first), bias)); // [2, 3, 6]
      const logits = tf.matMul(hidden, second); // [2, 3, 5]
      const probabilities = tf.softmax(logits);
      return tf.neg(tf.mean(tf.sum(tf.mul(targets, tf.log(probabilities)), -1)));
    };
    const losses: number[] = [];
    for (let step = 0; step < 150; step++) {
      const { value, grads } = tf.variableGrads(loss);
      losses.push(value.dataSync()[0]);
      for (const parameter of [table, first, bias, second]) {
        const gradient = grads[parameter.name];
        expect(gradient.dataSync().every(Number.isFinite)).toBe(true);
        tf.tidy(() => parameter.assign(tf.sub(parameter, tf.mul(0.5, gradient))));
      }
      tf.dispose([value, grads]);
    }
    expect(losses[0]).toBeGreaterThan(1);
    expect(losses[149]).toBeLessThan(0.1);
    tf.dispose([table, first, bias, second, tokens, targets]);
    expect(tf.memory().numTensors).toBe(before);
  });
});
