import * as tf from '@tensorflow/tfjs-core';
import { innerTwo, mergeAxes, stridesOf, visitPlaces } from './axes.ts';
import type { Axis } from './axes.ts';
import type { Heap } from './heap.ts';
import type { Replacement } from './tfjs-kernels.ts';

type Numeric = 'float32' | 'int32' | 'bool';

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, extent) => product * extent, 1);

function isNumeric(dtype: tf.DataType): dtype is Numeric {
  return dtype === 'float32' || dtype === 'int32' || dtype === 'bool';
}

/** A tensor on the data of another one, as tfjs makes it for a reshape. */
export function shareData(backend: unknown, { dataId, dtype }: tf.TensorInfo, shape: readonly number[]): tf.TensorInfo {
  (backend as tf.KernelBackend).incRef(dataId);
  return { dataId, dtype, shape: [...shape] };
}

/** Copies elements of `bytes` bytes; the strides of an axis are in elements, source first. */
function copyAxes(heap: Heap, axes: readonly Axis[], bytes: number, from: number, to: number): void {
  const merged = mergeAxes(axes);
  const last = merged.at(-1);
  const runs = last?.strides[0] === 1 && last.strides[1] === 1 ? last.extent : 1;
  const { rest, outer, inner } = innerTwo(runs === 1 ? merged : merged.slice(0, -1), 2);
  const [outerFrom, outerTo, innerFrom, innerTo] = [...outer.strides, ...inner.strides].map((stride) => stride * bytes);
  visitPlaces(rest, 2, ([source, target]) => {
    const start = [from + source! * bytes, to + target! * bytes] as const;
    heap.kernels.copyRuns(outer.extent, inner.extent, runs * bytes, start[0], outerFrom!, innerFrom!, start[1], outerTo!, innerTo!);
  });
}

function axesOf(shape: readonly number[], from: readonly number[], to: readonly number[]): Axis[] {
  return shape.map((extent, axis) => ({ extent, strides: [from[axis]!, to[axis]!] }));
}

/** The part of x that starts at `begin`, as a new tensor. */
function cut(heap: Heap, x: tf.TensorInfo, begin: readonly number[], size: readonly number[]): tf.TensorInfo {
  const strides = stridesOf(x.shape);
  const output = heap.output(size, x.dtype as Numeric);
  const bytes = tf.util.bytesPerElement(x.dtype);
  const start = begin.reduce((sum, place, axis) => sum + place * strides[axis]!, 0);
  if (sizeOf(size) > 0)
    copyAxes(heap, axesOf(size, strides, stridesOf(size)), bytes, heap.pointer(x) + start * bytes, heap.pointer(output));
  return output;
}

const slice: Replacement = (call, heap, original) => {
  const x = call.inputs['x']!;
  if (!isNumeric(x.dtype)) return original(call);
  const { begin, size } = call.attrs as { begin: number | number[]; size: number | number[] };
  const [from, extents] = tf.slice_util.parseSliceParams(x, begin, size);
  tf.slice_util.assertParamsValid(x, from!, extents!);
  return cut(heap, x, from!, extents!);
};

const split: Replacement = (call, heap, original) => {
  const x = call.inputs['x']!;
  if (!isNumeric(x.dtype)) return original(call);
  const { numOrSizeSplits, axis } = call.attrs as { numOrSizeSplits: number | number[]; axis: number };
  const along = tf.util.parseAxisParam(axis, x.shape)[0]!;
  const begin = x.shape.map(() => 0);
  return tf.backend_util.prepareSplitSize(x as tf.Tensor, numOrSizeSplits, along).map((extent) => {
    const size = [...x.shape];
    size[along] = extent;
    const part = cut(heap, x, begin, size);
    begin[along] = begin[along]! + extent;
    return part;
  });
};

/** Joins tensors along an axis of `shape`; a part may lack the axis (then it has extent 1 there). */
function join(
  heap: Heap,
  parts: readonly tf.TensorInfo[],
  shape: readonly number[],
  along: number,
  extents: readonly number[],
): tf.TensorInfo {
  const { dtype } = parts[0]!;
  const output = heap.output(shape, dtype as Numeric);
  const bytes = tf.util.bytesPerElement(dtype);
  const strides = stridesOf(shape);
  let to = heap.pointer(output);
  parts.forEach((part, index) => {
    const own = [...shape];
    own[along] = extents[index]!;
    if (sizeOf(own) > 0) copyAxes(heap, axesOf(own, stridesOf(own), strides), bytes, heap.pointer(part), to);
    to += extents[index]! * strides[along]! * bytes;
  });
  return output;
}

const concat: Replacement = (call, heap, original) => {
  const parts = call.inputs as unknown as tf.TensorInfo[];
  const { dtype, shape } = parts[0]!;
  const filled = parts.filter((part) => sizeOf(part.shape) > 0);
  if (!isNumeric(dtype) || filled.length === 0 || parts.some((part) => part.dtype !== dtype)) return original(call);
  const along = tf.util.parseAxisParam(call.attrs['axis'] as number, shape)[0]!;
  const shapes = parts.map((part) => part.shape);
  tf.backend_util.assertParamsConsistent(shapes, along);
  const whole = tf.backend_util.computeOutShape(shapes, along);
  if (filled.length === 1) return shareData(call.backend, filled[0]!, whole);
  const extents = filled.map((part) => part.shape[along]!);
  const copied = (): tf.TensorInfo => join(heap, filled, whole, along, extents);
  const [before, after] = filled as [tf.TensorInfo, tf.TensorInfo];
  // data that follows the other's as a whole can grow in place
  const inOrder = filled.length === 2 && sizeOf(whole.slice(0, along)) === 1;
  return inOrder ? heap.growing.append(before, after, whole, copied) : copied();
};

const pack: Replacement = (call, heap, original) => {
  const parts = call.inputs as unknown as tf.TensorInfo[];
  const { dtype, shape } = parts[0]!;
  const alike = parts.every((part) => part.dtype === dtype && tf.util.arraysEqual(part.shape, shape));
  if (!isNumeric(dtype) || !alike || parts.length === 1) return original(call);
  const along = tf.util.parseAxisParam(call.attrs['axis'] as number, [...shape, 1])[0]!;
  const whole = [...shape.slice(0, along), parts.length, ...shape.slice(along)];
  return join(
    heap,
    parts,
    whole,
    along,
    parts.map(() => 1),
  );
};

const unpack: Replacement = (call, heap, original) => {
  const x = call.inputs['value']!;
  if (!isNumeric(x.dtype)) return original(call);
  const along = tf.util.parseAxisParam(call.attrs['axis'] as number, x.shape)[0]!;
  const size = x.shape.map((extent, axis) => (axis === along ? 1 : extent));
  const shape = x.shape.filter((_, axis) => axis !== along);
  return Array.from({ length: x.shape[along]! }, (_, place) => {
    const begin = x.shape.map((__, axis) => (axis === along ? place : 0));
    return { ...cut(heap, x, begin, size), shape };
  });
};

const tile: Replacement = (call, heap, original) => {
  const x = call.inputs['x']!;
  const reps = call.attrs['reps'] as number[];
  const shape = x.shape.map((extent, axis) => extent * reps[axis]!);
  if (!isNumeric(x.dtype) || reps.length !== x.shape.length || sizeOf(shape) === 0) return original(call);
  const output = heap.output(shape, x.dtype);
  const [from, to] = [stridesOf(x.shape), stridesOf(shape)];
  const axes = x.shape.flatMap((extent, axis) => [
    { extent: reps[axis]!, strides: [0, extent * to[axis]!] },
    { extent, strides: [from[axis]!, to[axis]!] },
  ]);
  copyAxes(heap, axes, tf.util.bytesPerElement(x.dtype), heap.pointer(x), heap.pointer(output));
  return output;
};

/** A tensor of 4-byte numbers with its axes in another order, on the same data where the order of the elements stays; null where it cannot. */
export function permute(heap: Heap, x: tf.TensorInfo, perm: readonly number[]): tf.TensorInfo | null {
  const shape = perm.map((axis) => x.shape[axis]!);
  const strides = stridesOf(x.shape);
  const axes = mergeAxes(
    axesOf(
      shape,
      perm.map((axis) => strides[axis]!),
      stridesOf(shape),
    ),
  );
  // one axis is left: the order of the elements does not change
  if (axes.length < 2) return shareData(heap.backend, x, shape);
  if (x.dtype !== 'float32' && x.dtype !== 'int32') return null;
  const output = heap.output(shape, x.dtype);
  const [from, to] = [heap.pointer(x), heap.pointer(output)];
  const rows = axes.at(-1)!;
  if (rows.strides[0] === 1) {
    copyAxes(heap, axes, 4, from, to);
    return output;
  }
  // the last axis of the result and the last one of the source are a matrix to transpose
  const columns = axes.find((axis) => axis.strides[0] === 1)!;
  const { rest, outer, inner } = innerTwo(
    axes.filter((axis) => axis !== rows && axis !== columns),
    2,
  );
  const [outerFrom, outerTo, innerFrom, innerTo] = [...outer.strides, ...inner.strides].map((stride) => stride * 4);
  visitPlaces(rest, 2, ([source, target]) => {
    const sizes = [outer.extent, inner.extent, rows.extent, columns.extent] as const;
    const start = [from + source! * 4, to + target! * 4] as const;
    const steps = [rows.strides[0]! * 4, columns.strides[1]! * 4] as const;
    heap.kernels.transposeMatrices(...sizes, start[0], outerFrom!, innerFrom!, steps[0], start[1], outerTo!, innerTo!, steps[1]);
  });
  return output;
}

const transpose: Replacement = (call, heap, original) => {
  const x = call.inputs['x']!;
  if (!isNumeric(x.dtype) || sizeOf(x.shape) === 0) return original(call);
  return permute(heap, x, call.attrs['perm'] as number[]) ?? original(call);
};

const reverse: Replacement = (call, heap, original) => {
  const x = call.inputs['x']!;
  if (!isNumeric(x.dtype) || sizeOf(x.shape) === 0) return original(call);
  const turned = tf.util.parseAxisParam(call.attrs['dims'] as number[], x.shape);
  const strides = stridesOf(x.shape);
  const output = heap.output(x.shape, x.dtype);
  const bytes = tf.util.bytesPerElement(x.dtype);
  // from the last place of every turned axis backwards
  const start = turned.reduce((sum, axis) => sum + (x.shape[axis]! - 1) * strides[axis]!, 0);
  const backwards = strides.map((stride, axis) => (turned.includes(axis) ? -stride : stride));
  copyAxes(heap, axesOf(x.shape, backwards, strides), bytes, heap.pointer(x) + start * bytes, heap.pointer(output));
  return output;
};

const identity: Replacement = (call, _heap, original) => {
  const x = call.inputs['x']!;
  return isNumeric(x.dtype) ? shareData(call.backend, x, x.shape) : original(call);
};

/** Kernels of tfjs that only move numbers; tfjs-wasm runs most of them in JavaScript, over a copy of the whole input. */
export const copyReplacements: Readonly<Record<string, Replacement>> = {
  Slice: slice,
  SplitV: split,
  Concat: concat,
  Pack: pack,
  Unpack: unpack,
  Tile: tile,
  Transpose: transpose,
  Reverse: reverse,
  Identity: identity,
};
