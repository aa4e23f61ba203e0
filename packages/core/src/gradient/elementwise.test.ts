import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { elementwiseGradients } from './elementwise.ts';
import { registerGradients } from './index.ts';

const used = new Set<string>();

beforeAll(() => {
  registerGradients();
  // count the kernels whose gradient ran, so that a gradient without a test is seen
  for (const { kernelName } of elementwiseGradients()) {
    const config = tf.getGradient(kernelName);
    tf.unregisterGradient(kernelName);
    tf.registerGradient({ ...config, gradFunc: (...args) => (used.add(kernelName), config.gradFunc(...args)) });
  }
});

afterAll(() => {
  expect(elementwiseGradients().flatMap(({ kernelName }) => (used.has(kernelName) ? [] : [kernelName]))).toEqual([]);
});

/** Largest deviation relative to max(1, |expected|). */
function expectClose(actual: ArrayLike<number>, expected: number[], tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  expected.forEach((value, i) => {
    const error = Math.abs(actual[i] - value) / Math.max(1, Math.abs(value));
    expect(error, `element ${i}: ${actual[i]} should be ${value}`).toBeLessThan(tolerance);
  });
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const around = [-2.5, -1.1, -0.6, -0.05, 0.04, 0.3, 0.9, 1.7, 3.2];
const positive = [0.02, 0.3, 0.9, 1, 1.7, 4.5];
const inside = [-0.95, -0.6, -0.1, 0.05, 0.4, 0.9];
const scale = 1.0507009873554805;
const alpha = 1.6732632423543772;

/** Name, op, derivative in float64, points. */
const unary: [string, (x: tf.Tensor) => tf.Tensor, (x: number) => number, number[]][] = [
  ['neg', tf.neg, () => -1, around],
  ['identity', tf.clone, () => 1, around],
  ['cast', (x) => tf.cast(tf.mul(tf.cast(x, 'int32'), 3), 'float32'), () => 3, around],
  ['abs', tf.abs, (x) => Math.sign(x), [0, ...around]],
  ['square', tf.square, (x) => 2 * x, around],
  ['log', tf.log, (x) => 1 / x, positive],
  ['log1p', tf.log1p, (x) => 1 / (1 + x), inside],
  ['exp', tf.exp, Math.exp, around],
  ['expm1', tf.expm1, Math.exp, around],
  ['sqrt', tf.sqrt, (x) => 0.5 / Math.sqrt(x), positive],
  ['rsqrt', tf.rsqrt, (x) => -0.5 * x ** -1.5, positive],
  ['reciprocal', tf.reciprocal, (x) => -1 / (x * x), around],
  ['sigmoid', tf.sigmoid, (x) => sigmoid(x) * sigmoid(-x), around],
  ['logSigmoid', tf.logSigmoid, (x) => sigmoid(-x), around],
  ['softplus', tf.softplus, sigmoid, [-30, 30, ...around]],
  ['tanh', tf.tanh, (x) => 1 - Math.tanh(x) ** 2, around],
  ['sinh', tf.sinh, Math.cosh, around],
  ['cosh', tf.cosh, Math.sinh, around],
  ['sin', tf.sin, Math.cos, around],
  ['cos', tf.cos, (x) => -Math.sin(x), around],
  ['tan', tf.tan, (x) => 1 / Math.cos(x) ** 2, around],
  ['asin', tf.asin, (x) => 1 / Math.sqrt(1 - x * x), inside],
  ['acos', tf.acos, (x) => -1 / Math.sqrt(1 - x * x), inside],
  ['atan', tf.atan, (x) => 1 / (1 + x * x), around],
  ['asinh', tf.asinh, (x) => 1 / Math.sqrt(1 + x * x), around],
  ['acosh', tf.acosh, (x) => 1 / Math.sqrt(x * x - 1), [1.05, 1.5, 3]],
  ['atanh', tf.atanh, (x) => 1 / (1 - x * x), inside],
  ['erf', tf.erf, (x) => (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x), around],
  ['relu', tf.relu, (x) => (x > 0 ? 1 : 0), [0, ...around]],
  ['relu6', tf.relu6, (x) => (x > 0 && x < 6 ? 1 : 0), [7, 5.9, ...around]],
  ['leakyRelu', (x) => tf.leakyRelu(x, 0.3), (x) => (x > 0 ? 1 : 0.3), around],
  ['elu', tf.elu, (x) => (x > 0 ? 1 : Math.exp(x)), around],
  ['selu', tf.selu, (x) => (x > 0 ? scale : scale * alpha * Math.exp(x)), around],
  ['clipByValue', (x) => tf.clipByValue(x, -1, 0.5), (x) => (x >= -1 && x <= 0.5 ? 1 : 0), [-1, 0.5, ...around]],
  ...(['sign', 'step', 'ceil', 'floor', 'round', 'zerosLike', 'onesLike'] as const).map((name): (typeof unary)[number] => [
    name,
    (x) => tf[name](x),
    () => 0,
    around,
  ]),
  ...(['isNaN', 'isInf', 'isFinite'] as const).map((name): (typeof unary)[number] => [
    name,
    (x) => tf.cast(tf.logicalNot(tf[name](x)), 'float32'),
    () => 0,
    around,
  ]),
];

type Scalar2 = (a: number, b: number) => number;
const as = [-2.3, -0.7, 0.4, 1.9, 0.8, -1.2];
const bs = [0.9, -1.6, 1.3, 0.45, -0.8, 2.2];
const over = (a: number[]): number[] => a.map((x) => Math.abs(x) + 0.1);

/** Name, op, ∂/∂a, ∂/∂b, values of a `[2, 3]` and of b. */
const binary: [string, (a: tf.Tensor, b: tf.Tensor) => tf.Tensor, Scalar2, Scalar2, number[], number[]][] = [
  ['add', tf.add, () => 1, () => 1, as, bs],
  ['sub', tf.sub, () => 1, () => -1, as, bs],
  ['mul', tf.mul, (_a, b) => b, (a) => a, as, bs],
  ['div', tf.div, (_a, b) => 1 / b, (a, b) => -a / (b * b), as, bs],
  ['floorDiv', tf.floorDiv, (_a, b) => 1 / b, (a, b) => -a / (b * b), as, bs],
  ['mod', tf.mod, () => 1, (a, b) => -Math.floor(a / b), as, bs],
  ['squaredDifference', tf.squaredDifference, (a, b) => 2 * (a - b), (a, b) => 2 * (b - a), as, bs],
  ['maximum', tf.maximum, (a, b) => Number(a >= b), (a, b) => Number(a < b), as, bs],
  ['minimum', tf.minimum, (a, b) => Number(a <= b), (a, b) => Number(a > b), as, bs],
  ['maximum at a tie', tf.maximum, () => 1, () => 0, [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]],
  ['pow', tf.pow, (a, b) => b * a ** (b - 1), (a, b) => a ** b * Math.log(a), over(as), bs],
  ['pow of zero', tf.pow, (a, b) => (b === 0 ? 0 : b * a ** (b - 1)), () => 0, [0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 1, 0]],
  ['pow of a negative base', tf.pow, (a, b) => b * a ** (b - 1), () => 0, as.map((a) => -Math.abs(a)), [2, 3, 1, 2, 3, 1]],
  ['atan2', tf.atan2, (a, b) => b / (a * a + b * b), (a, b) => -a / (a * a + b * b), as, bs],
  ['prelu', tf.prelu, (a, b) => (a > 0 ? 1 : b), (a) => (a > 0 ? 0 : a), as, bs],
  ...(['equal', 'notEqual', 'greater', 'greaterEqual', 'less', 'lessEqual'] as const).map((name): (typeof binary)[number] => [
    name,
    (a, b) => tf.cast(tf[name](a, b), 'float32'),
    () => 0,
    () => 0,
    as,
    bs,
  ]),
  ...(['logicalAnd', 'logicalOr'] as const).map((name): (typeof binary)[number] => [
    name,
    (a, b) => tf.cast(tf[name](tf.greater(a, 0), tf.greater(b, 0)), 'float32'),
    () => 0,
    () => 0,
    as,
    bs,
  ]),
];

describe.each(['cpu', 'wasm'])('elementwise gradients on %s', (backend) => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  it.each(unary)('%s', (_name, op, derivative, points) => {
    const before = tf.memory().numTensors;
    const values = tf.tidy(() => {
      const dy = points.map((_, i) => 0.5 + 0.25 * i);
      const dx = tf
        .grad((x) => op(x))(tf.tensor1d(points), tf.tensor1d(dy))
        .dataSync();
      return [...dx].map((value, i) => value / dy[i]);
    });
    // float32 inputs are read back as such, because steep derivatives feel the rounding
    expectClose(values, Array.from(Float32Array.from(points), derivative), 2e-5);
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each(binary)('%s, same shapes and broadcast either way', (_name, op, da, db, a, b) => {
    const before = tf.memory().numTensors;
    const upstream = [0.5, -1, 0.75, 2, 1.25, -0.3];
    // shapes of a and b; entry i of the output [2, 3] reads element map(i)
    const whole = (i: number): number => i;
    const column = (i: number): number => i % 3;
    const row = (i: number): number => Math.floor(i / 3);
    const first = (): number => 0;
    const cases: [number[], (i: number) => number, number[], (i: number) => number][] = [
      [[2, 3], whole, [2, 3], whole],
      [[2, 3], whole, [3], column],
      [[2, 3], whole, [2, 1], row],
      [[2, 3], whole, [], first],
      ...(op === tf.prelu ? [] : ([[[1, 3], column, [2, 1], row]] as [number[], typeof row, number[], typeof row][])),
      ...(op === tf.prelu ? [] : ([[[], first, [2, 3], whole]] as [number[], typeof row, number[], typeof row][])),
    ];
    for (const [shapeA, mapA, shapeB, mapB] of cases) {
      const [ga, gb] = tf.tidy(() =>
        tf
          .grads((x, y) => op(x, y))(
            [
              tf.tensor(a.slice(0, tf.util.sizeFromShape(shapeA)), shapeA, 'float32'),
              tf.tensor(b.slice(0, tf.util.sizeFromShape(shapeB)), shapeB, 'float32'),
            ],
            tf.tensor2d(upstream, [2, 3]),
          )
          .map((g) => g.dataSync()),
      );
      const expectedA = Array.from(ga, () => 0);
      const expectedB = Array.from(gb, () => 0);
      upstream.forEach((dy, i) => {
        const [x, y] = [Math.fround(a[mapA(i)]), Math.fround(b[mapB(i)])];
        expectedA[mapA(i)] += dy * da(x, y);
        expectedB[mapB(i)] += dy * db(x, y);
      });
      expectClose(ga, expectedA, 2e-5);
      expectClose(gb, expectedB, 2e-5);
    }
    expect(tf.memory().numTensors).toBe(before);
  });

  it('addN sends the gradient to every term', () => {
    const gradients = tf.tidy(() =>
      tf
        .grads((a, b, c) => tf.addN([a, b, c, a]))([tf.scalar(1), tf.scalar(2), tf.scalar(3)], tf.scalar(0.5))
        .map((g) => g.dataSync()[0]),
    );
    expect(gradients).toEqual([1, 0.5, 0.5]);
  });

  it('where selects, broadcasts, and keeps a NaN of the branch not taken out', () => {
    const before = tf.memory().numTensors;
    const [a, b, c] = tf.tidy(() =>
      tf
        .grads((x, y, z) => tf.where(tf.greater(x, 0), y, z))(
          [tf.tensor2d([1, -1, 1, -1, -1, 1], [2, 3]), tf.tensor1d([1, 2, 3]), tf.tensor2d([4, 5], [2, 1])],
          tf.tensor2d([1, NaN, 2, 3, 4, 5], [2, 3]),
        )
        .map((g) => [...g.dataSync()]),
    );
    expect(a).toEqual([0, 0, 0, 0, 0, 0]);
    expect(b).toEqual([1, 0, 7]);
    expect(c).toEqual([NaN, 7]);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('one tensor on both sides, and a gradient shared by two tensors', () => {
    const [x, y] = tf.tidy(() =>
      tf
        .grads((a, b) => tf.add(tf.add(a, b), tf.mul(a, a)))([tf.scalar(3), tf.scalar(5)])
        .map((g) => g.dataSync()[0]),
    );
    expect([x, y]).toEqual([7, 1]);
  });

  it.each(unary)('second derivative of %s', (_name, op, derivative, points) => {
    const smooth = points.filter((x) => ![0, -1, 0.5].includes(x));
    const before = tf.memory().numTensors;
    // the square keeps functions whose derivative is constant connected to x
    const values = tf.tidy(() =>
      tf
        .grad((x) => tf.grad((z) => tf.add(op(z), tf.square(z)))(x))(tf.tensor1d(smooth))
        .dataSync(),
    );
    const second = (x: number): number => 2 + (derivative(x + 1e-5) - derivative(x - 1e-5)) / 2e-5;
    expectClose(values, Array.from(Float32Array.from(smooth), second), 5e-5);
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each(binary.filter(([name]) => ['mul', 'div', 'squaredDifference', 'pow', 'atan2'].includes(name)))(
    'second derivatives of %s',
    (_name, op, da, db, a, b) => {
      const [ga, gb] = tf.tidy(() =>
        tf
          .grads((x, y) => tf.add(...(tf.grads((u, v) => op(u, v))([x, y]) as [tf.Tensor, tf.Tensor])))([tf.tensor1d(a), tf.tensor1d(b)])
          .map((g) => g.dataSync()),
      );
      const slope = (x: number, y: number): number => da(x, y) + db(x, y);
      const at = Array.from(a, (_, i) => [Math.fround(a[i]), Math.fround(b[i])]);
      expectClose(ga, at.map(([x, y]) => (slope(x + 1e-5, y) - slope(x - 1e-5, y)) / 2e-5), 5e-5); // prettier-ignore
      expectClose(gb, at.map(([x, y]) => (slope(x, y + 1e-5) - slope(x, y - 1e-5)) / 2e-5), 5e-5); // prettier-ignore
    },
  );
});
