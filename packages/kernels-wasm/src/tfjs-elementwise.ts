import * as tf from '@tensorflow/tfjs-core';
import { broadcastStrides, innerTwo, mergeAxes, visitPlaces } from './axes.ts';
import type { KernelExports } from './exports.ts';
import type { Replacement } from './tfjs-kernels.ts';

type Binary = 'addArrays' | 'subtractArrays' | 'multiplyArrays' | 'divideArrays';
type Unary = keyof Pick<
  KernelExports,
  'exponentials' | 'hyperbolicTangents' | 'softplusses' | 'logarithms1p' | 'logarithms' | 'inverseRoots' | 'negatives' | 'squares'
>;

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, extent) => product * extent, 1);

/** An operation on two float32 arrays of any shapes that broadcast. */
function binary(name: Binary): Replacement {
  return (call, heap, original) => {
    const { a, b } = call.inputs as { a: tf.TensorInfo; b: tf.TensorInfo };
    if (a.dtype !== 'float32' || b.dtype !== 'float32') return original(call);
    if (tf.util.arraysEqual(a.shape, b.shape)) {
      const size = sizeOf(a.shape);
      const output = heap.output(a.shape);
      heap.kernels[name](0, 1, 1, size, heap.pointer(a), 0, 0, heap.pointer(b), 0, 0, heap.pointer(output));
      return output;
    }
    const shape = tf.backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
    if (sizeOf(shape) === 0) return original(call);
    const [fromA, fromB] = [broadcastStrides(a.shape, shape), broadcastStrides(b.shape, shape)];
    const axes = mergeAxes(shape.map((extent, axis) => ({ extent, strides: [fromA[axis]!, fromB[axis]!] })));
    const last = axes.pop() ?? { extent: 1, strides: [1, 1] };
    const single = last.strides[1] === 0 ? 1 : last.strides[0] === 0 ? 2 : 0;
    const { rest, outer, inner } = innerTwo(axes, 2);
    const output = heap.output(shape);
    const [pointerA, pointerB] = [heap.pointer(a), heap.pointer(b)];
    const [outerA, outerB, innerA, innerB] = [...outer.strides, ...inner.strides].map((stride) => stride * 4);
    const bytes = 4 * outer.extent * inner.extent * last.extent;
    let to = heap.pointer(output);
    visitPlaces(rest, 2, ([placeA, placeB]) => {
      const start = [pointerA + placeA! * 4, pointerB + placeB! * 4] as const;
      heap.kernels[name](single, outer.extent, inner.extent, last.extent, start[0], outerA!, innerA!, start[1], outerB!, innerB!, to);
      to += bytes;
    });
    return output;
  };
}

/** A function of every number of a float32 array. */
function unary(name: Unary): Replacement {
  return (call, heap, original) => {
    const x = call.inputs['x']!;
    const size = sizeOf(x.shape);
    if (x.dtype !== 'float32' || size === 0) return original(call);
    const output = heap.output(x.shape);
    heap.kernels[name](size, heap.pointer(x), heap.pointer(output));
    return output;
  };
}

/** Arithmetic and functions of single float32 numbers; other dtypes stay with tfjs. */
export const elementwiseReplacements: Readonly<Record<string, Replacement>> = {
  Add: binary('addArrays'),
  Sub: binary('subtractArrays'),
  Multiply: binary('multiplyArrays'),
  RealDiv: binary('divideArrays'),
  Exp: unary('exponentials'),
  Tanh: unary('hyperbolicTangents'),
  Softplus: unary('softplusses'),
  Log1p: unary('logarithms1p'),
  Log: unary('logarithms'),
  Rsqrt: unary('inverseRoots'),
  Neg: unary('negatives'),
  Square: unary('squares'),
};
