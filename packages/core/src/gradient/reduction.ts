import * as tf from '@tensorflow/tfjs-core';
import { cumulativeSum } from '../numerics/cumulative-sum.ts';
import { asFloat, expandToShape, outputOf, zeroGradient } from './broadcast.ts';

type Axes = number | number[] | null;

/** Shape of a reduction's result with the reduced axes kept as ones. */
function keptShape(shape: number[], axes: number[]): number[] {
  return shape.map((size, i) => (axes.includes(i) ? 1 : size));
}

/** Gradient of a sum scaled by a factor of the number of elements reduced. */
function sumGradient(kernelName: string, scale: (count: number) => number): tf.GradConfig {
  return {
    kernelName,
    inputsToSave: ['x'],
    gradFunc: (dy, [x], attrs) => ({
      x: () => {
        const axes = tf.util.parseAxisParam(attrs.axis as number[], x.shape);
        const factor = scale(axes.reduce((count, axis) => count * x.shape[axis], 1));
        const kept = tf.reshape(dy as tf.Tensor, keptShape(x.shape, axes));
        return expandToShape(factor === 1 ? kept : tf.mul(kept, factor), x.shape);
      },
    }),
  };
}

/** Gradient of a maximum or minimum; elements that tie share it in equal parts. */
function extremumGradient(kernelName: string, attribute: string): tf.GradConfig {
  return {
    kernelName,
    inputsToSave: ['x'],
    outputsToSave: [true],
    gradFunc: (dy, [x, y], attrs) => ({
      x: () => {
        const axes = tf.util.parseAxisParam(attrs[attribute] as number[], x.shape);
        const kept = keptShape(x.shape, axes);
        const chosen = tf.cast(tf.equal(x, tf.reshape(y, kept)), 'float32');
        return tf.mul(chosen, tf.div(tf.reshape(dy as tf.Tensor, kept), tf.sum(chosen, axes, true)));
      },
    }),
  };
}

/**
 * Gradient of a product: dx_i = dy · Π_{j<i} x_j · Π_{j>i} x_j, which needs no division and so holds with zeros in x.
 */
function prodBackward(dy: tf.Tensor, x: tf.Tensor, axis: Axes): tf.Tensor {
  const axes = tf.util.parseAxisParam(axis as number[], x.shape);
  const order = [...x.shape.keys()].filter((i) => !axes.includes(i)).concat(axes);
  const ordered = x.rank > 1 ? tf.transpose(x, order) : x;
  const rows = tf.reshape(ordered, [dy.size, -1]); // [outer, reduced]
  const others = tf.mul(tf.cumprod(rows, 1, true, false), tf.cumprod(rows, 1, true, true));
  const gradient = tf.reshape(tf.mul(tf.reshape(dy, [dy.size, 1]), others), ordered.shape);
  return x.rank > 1 ? tf.transpose(gradient, inverse(order)) : gradient;
}

/** Inverse of a permutation. */
function inverse(order: number[]): number[] {
  return order.map((_, i) => order.indexOf(i));
}

/**
 * Gradient of an inclusive running product over the last axis of rows: dx_s = Π_{r<s} x_r · g_s with
 * g_s = dy_s + x_{s+1} g_{s+1}, a linear recurrence solved by doubling in log2(n) steps; no division, so zeros are allowed.
 */
function cumprodBackward(dy: tf.Tensor, rows: tf.Tensor): tf.Tensor {
  const [outer, length] = rows.shape;
  const ahead = (values: tf.Tensor, step: number, fill: number): tf.Tensor =>
    tf.pad(tf.slice(values, [0, step], [outer, length - step]), [[0, 0], [0, step]], fill); // prettier-ignore
  let sums = dy;
  let factors = ahead(rows, 1, 0);
  for (let step = 1; step < length; step *= 2) {
    sums = tf.add(sums, tf.mul(factors, ahead(sums, step, 0)));
    factors = tf.mul(factors, ahead(factors, step, 0));
  }
  return tf.mul(tf.cumprod(rows, 1, true), sums);
}

const cumprodGradient: tf.GradConfig['gradFunc'] = (dy, [saved], attrs) => ({
  x: () => {
    const x = asFloat(saved);
    const [axis] = tf.util.parseAxisParam(attrs.axis as number, x.shape);
    const order = [...x.shape.keys()].filter((i) => i !== axis).concat(axis);
    const direction = (rows: tf.Tensor): tf.Tensor => (attrs.reverse ? tf.reverse(rows, 1) : rows);
    const toRows = (t: tf.Tensor): tf.Tensor => direction(tf.reshape(tf.transpose(t, order), [-1, x.shape[axis]]));
    let upstream = toRows(dy as tf.Tensor);
    if (attrs.exclusive) {
      // y_t is the inclusive product up to t - 1: its gradient moves one place back
      const [outer, length] = upstream.shape;
      upstream = tf.pad(tf.slice(upstream, [0, 1], [outer, length - 1]), [[0, 0], [0, 1]]); // prettier-ignore
    }
    const gradient = direction(cumprodBackward(upstream, toRows(x)));
    const shape = order.map((i) => x.shape[i]);
    return tf.transpose(tf.reshape(gradient, shape), inverse(order));
  },
});

/**
 * Gradients of reductions, running sums and products, and the softmax.
 *
 * `max` and `min` share the gradient in equal parts among elements that tie; `argMax`, `argMin`, `all` and `any` have none (zero).
 *
 * @returns configurations for `tf.registerGradient`.
 */
export function reductionGradients(): tf.GradConfig[] {
  return [
    sumGradient(tf.Sum, () => 1),
    sumGradient(tf.Mean, (count) => 1 / count),
    extremumGradient(tf.Max, 'reductionIndices'),
    extremumGradient(tf.Min, 'axis'),
    ...[tf.ArgMax, tf.ArgMin, tf.All, tf.Any].map((name) => zeroGradient(name, ['x'])),
    {
      kernelName: tf.Prod,
      inputsToSave: ['x'],
      gradFunc: (dy, [x], attrs) => ({ x: () => prodBackward(dy as tf.Tensor, asFloat(x), attrs.axis as Axes) }),
    },
    {
      kernelName: tf.Cumsum,
      gradFunc: (dy, _saved, attrs) => ({
        x: () => cumulativeSum(dy as tf.Tensor, attrs.axis as number, attrs.exclusive as boolean, !attrs.reverse),
      }),
    },
    { kernelName: tf.Cumprod, inputsToSave: ['x'], gradFunc: cumprodGradient },
    {
      kernelName: tf.Softmax,
      inputsToSave: ['logits'],
      outputsToSave: [true],
      gradFunc: (dy, [logits, saved], attrs) => ({
        logits: () => {
          const y = outputOf((x) => tf.softmax(x, attrs.dim as number), logits, saved);
          const weighted = tf.mul(dy as tf.Tensor, y);
          return tf.sub(weighted, tf.mul(y, tf.sum(weighted, attrs.dim as number, true)));
        },
      }),
    },
  ];
}
