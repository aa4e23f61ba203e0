import * as tf from '@tensorflow/tfjs-core';
import { broadcastStrides, innerTwo, mergeAxes, visitPlaces } from './axes.ts';
import type { CombineArrays } from './exports.ts';
import type { Heap } from './heap.ts';
import type { Replacement } from './tfjs-kernels.ts';

type Binary =
  | 'addArrays'
  | 'subtractArrays'
  | 'multiplyArrays'
  | 'divideArrays'
  | 'largerOfArrays'
  | 'smallerOfArrays'
  | 'addWhole'
  | 'subtractWhole'
  | 'multiplyWhole';
type Unary =
  | 'exponentials'
  | 'hyperbolicTangents'
  | 'softplusses'
  | 'logarithms1p'
  | 'logarithms'
  | 'inverseRoots'
  | 'negatives'
  | 'squares'
  | 'errorFunctions'
  | 'sines'
  | 'cosines';

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, extent) => product * extent, 1);

/** Runs a kernel over two arrays that broadcast. */
function runPairs(heap: Heap, a: tf.TensorInfo, b: tf.TensorInfo, output: tf.TensorInfo, run: CombineArrays): void {
  const bytes = tf.util.bytesPerElement(output.dtype);
  const [pointerA, pointerB] = [heap.pointer(a), heap.pointer(b)];
  let to = heap.pointer(output);
  if (tf.util.arraysEqual(a.shape, b.shape)) return run(0, 1, 1, sizeOf(a.shape), pointerA, 0, 0, pointerB, 0, 0, to);
  const { shape } = output;
  const [fromA, fromB] = [broadcastStrides(a.shape, shape), broadcastStrides(b.shape, shape)];
  const axes = mergeAxes(shape.map((extent, axis) => ({ extent, strides: [fromA[axis]!, fromB[axis]!] })));
  const last = axes.pop() ?? { extent: 1, strides: [1, 1] };
  const single = last.strides[1] === 0 ? 1 : last.strides[0] === 0 ? 2 : 0;
  const { rest, outer, inner } = innerTwo(axes, 2);
  const [outerA, outerB, innerA, innerB] = [...outer.strides, ...inner.strides].map((stride) => stride * 4);
  const step = bytes * outer.extent * inner.extent * last.extent;
  visitPlaces(rest, 2, ([placeA, placeB]) => {
    const start = [pointerA + placeA! * 4, pointerB + placeB! * 4] as const;
    run(single, outer.extent, inner.extent, last.extent, start[0], outerA!, innerA!, start[1], outerB!, innerB!, to);
    to += step;
  });
}

/** An operation on two arrays of any shapes that broadcast, in float32 and perhaps in int32. */
function binary(floats: Binary, whole?: Binary): Replacement {
  return (call, heap, original) => {
    const { a, b } = call.inputs as { a: tf.TensorInfo; b: tf.TensorInfo };
    const kernel = a.dtype !== b.dtype ? undefined : a.dtype === 'float32' ? floats : a.dtype === 'int32' ? whole : undefined;
    const shape = tf.backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
    if (!kernel || sizeOf(shape) === 0) return original(call);
    const output = heap.output(shape, a.dtype as 'float32' | 'int32');
    runPairs(heap, a, b, output, heap.kernels[kernel]);
    return output;
  };
}

/** A comparison: `code` of compareArrays, and whether the sides change places. */
function comparison(code: number, swapped: boolean): Replacement {
  return (call, heap, original) => {
    const { a, b } = call.inputs as { a: tf.TensorInfo; b: tf.TensorInfo };
    const shape = tf.backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
    if (a.dtype !== b.dtype || (a.dtype !== 'float32' && a.dtype !== 'int32') || sizeOf(shape) === 0) return original(call);
    const output = heap.output(shape, 'bool');
    const op = a.dtype === 'int32' ? code + 4 : code;
    runPairs(heap, swapped ? b : a, swapped ? a : b, output, (...sizes) => heap.kernels.compareArrays(op, ...sizes));
    return output;
  };
}

/** And, or of bool tensors of one shape. */
function logic(either: boolean): Replacement {
  return (call, heap, original) => {
    const { a, b } = call.inputs as { a: tf.TensorInfo; b: tf.TensorInfo };
    const size = sizeOf(a.shape);
    if (a.dtype !== 'bool' || b.dtype !== 'bool' || !tf.util.arraysEqual(a.shape, b.shape) || size === 0) return original(call);
    const output = heap.output(a.shape, 'bool');
    heap.kernels.combineBytes(either, size, heap.pointer(a), heap.pointer(b), heap.pointer(output));
    return output;
  };
}

const select: Replacement = (call, heap, original) => {
  const { condition, t, e } = call.inputs as { condition: tf.TensorInfo; t: tf.TensorInfo; e: tf.TensorInfo };
  const size = sizeOf(t.shape);
  const alike = [condition, e].every(({ shape }) => tf.util.arraysEqual(shape, t.shape));
  if (!alike || condition.dtype !== 'bool' || t.dtype !== e.dtype || (t.dtype !== 'float32' && t.dtype !== 'int32') || size === 0)
    return original(call);
  const output = heap.output(t.shape, t.dtype);
  heap.kernels.chooseWords(size, heap.pointer(condition), heap.pointer(t), heap.pointer(e), heap.pointer(output));
  return output;
};

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

/** Arithmetic, comparisons and functions number by number; what a kernel does not take stays with tfjs. */
export const elementwiseReplacements: Readonly<Record<string, Replacement>> = {
  Add: binary('addArrays', 'addWhole'),
  Sub: binary('subtractArrays', 'subtractWhole'),
  Multiply: binary('multiplyArrays', 'multiplyWhole'),
  RealDiv: binary('divideArrays'),
  Maximum: binary('largerOfArrays'),
  Minimum: binary('smallerOfArrays'),
  Less: comparison(0, false),
  LessEqual: comparison(1, false),
  Greater: comparison(0, true),
  GreaterEqual: comparison(1, true),
  Equal: comparison(2, false),
  NotEqual: comparison(3, false),
  LogicalAnd: logic(false),
  LogicalOr: logic(true),
  Select: select,
  Exp: unary('exponentials'),
  Tanh: unary('hyperbolicTangents'),
  Softplus: unary('softplusses'),
  Log1p: unary('logarithms1p'),
  Log: unary('logarithms'),
  Rsqrt: unary('inverseRoots'),
  Neg: unary('negatives'),
  Square: unary('squares'),
  Erf: unary('errorFunctions'),
  Sin: unary('sines'),
  Cos: unary('cosines'),
};
